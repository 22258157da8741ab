"""Which question is each label about? Joins label folders with the data they were made from."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from qzoom.data.readers import Problems
from qzoom.data.record import Record
from qzoom.data.records import open_records
from qzoom.errors import InvalidRequest
from training.labels.shards import LabelFolder


class Labelled(Protocol):
    """A label of any kind; it remembers what was asked."""

    @property
    def id(self) -> str:
        """Of the record."""
        ...

    @property
    def question(self) -> str:
        """Its text when the label was made."""
        ...


Label = TypeVar("Label", bound=Labelled)
Sample = TypeVar("Sample")


def open_labels(path: Path, wanted: Mapping[str, object]) -> LabelFolder:
    """Open a label folder that states what is needed.

    Args:
        path: The folder.
        wanted: Fields of its job that must have these values.

    Raises:
        InvalidRequest: If one has another, naming the field and both values.
    """
    folder = LabelFolder.open(path)
    for name, value in wanted.items():
        stated = folder.job.get(name)
        if stated != value:
            raise InvalidRequest(f"{name} is {stated!r} in {path}, but {value!r} is needed here")
    return folder


def join(
    folder: LabelFolder, labels: Iterable[Label], data: str | None
) -> Iterator[tuple[Record, Label]]:
    """Find the record of each label.

    Args:
        folder: Whose labels they are.
        labels: In any order.
        data: Replaces the data set's name that the folder states (moved pictures).

    Raises:
        InvalidRequest: If the data has no such record, or another question under its id.
    """
    source = data or folder.job["data"]
    # What is bad was skipped, and told, when the labels were made.
    records = {record.id: record for record in open_records(source, Problems())}
    for label in labels:
        record = records.get(label.id)
        if record is None or record.question != label.question:
            found = None if record is None else record.question
            raise InvalidRequest(
                f"question {label.id} is {label.question!r} in {folder.path}, but {found!r} "
                f"in {source}"
            )
        yield record, label


def group_by_picture(
    pairs: Iterable[tuple[Record, Sample]],
) -> tuple[list[list[Record]], list[tuple[int, int, Sample]]]:
    """Put the questions of each picture together.

    Args:
        pairs: Records with what belongs to each.

    Returns:
        groups: All questions of each picture, in the order of their first one.
        samples: (picture, number of the question in its group, what belongs to it), in order.
    """
    numbers: dict[str, int] = {}
    groups: list[list[Record]] = []
    samples: list[tuple[int, int, Sample]] = []
    for record, sample in pairs:
        picture = numbers.setdefault(record.picture.key, len(groups))
        if picture == len(groups):
            groups.append([])
        samples.append((picture, len(groups[picture]), sample))
        groups[picture].append(record)
    return groups, samples
