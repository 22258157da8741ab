"""The folders that `qzoom data make` writes: data.jsonl beside images/, evidence boxes included."""

from collections.abc import Iterator
from pathlib import Path

from qzoom.contracts.conversation import single_question
from qzoom.data.dataset import DATA_FILE
from qzoom.data.readers.fields import box_of, flag_of, text_of, texts_of
from qzoom.data.readers.images import ImageFolder
from qzoom.data.readers.lines import read_json_items
from qzoom.data.readers.problems import BadRecord, Problems
from qzoom.data.readers.record import Record


def read_native(folder: Path, problems: Problems) -> Iterator[Record]:
    """Read a data set of this project.

    Args:
        folder: It holds `data.jsonl`; `answers` may stand there instead of `answer`.
        problems: Takes what is skipped.

    Raises:
        InvalidRequest: If the file cannot be read at all.
    """
    images = ImageFolder(folder)
    for where, item in read_json_items(folder / DATA_FILE, problems):
        try:
            yield Record(
                id=str(item.get("id", where)),
                images=(images.find(item.get("image")),),
                conversation=single_question(text_of(item, "question")),
                answers=texts_of(item, "answers", "answer"),
                group=str(item.get("group", "all")),
                domain=str(item.get("domain", "")),
                needs_detail=flag_of(item, "needs_detail"),
                evidence_px=box_of(item, "evidence_px"),
            )
        except BadRecord as error:
            problems.add(where, error)
