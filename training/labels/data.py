"""What is labelled: a data set by picture, bad records left out and told."""

from typing import Any

from qzoom.data.readers import Problems
from qzoom.data.record import Record
from qzoom.data.records import open_records
from qzoom.errors import InvalidRequest
from training.labels.shards import group_pictures


def open_groups(data: str) -> tuple[list[list[Record]], dict[str, Any]]:
    """Read a data set by picture; what cannot be used is skipped.

    Args:
        data: Its name (see `qzoom.data.records`).

    Returns:
        groups: Questions by picture.
        skipped: What a job states about skipped records: their number and the first of them by
            line; empty where there are none.

    Raises:
        InvalidRequest: If no record can be used.
    """
    problems = Problems()
    groups = group_pictures(open_records(data, problems))
    if not groups:
        raise InvalidRequest(f"{data} has no record that can be used; {problems}")
    if not problems.count:
        return groups, {}
    return groups, {"skipped": problems.count, "skipped_first": problems.first}
