"""The folders that `qzoom data make` writes: data.jsonl beside images/, evidence boxes included."""

from collections.abc import Iterator
from pathlib import Path

from qzoom.data.readers.fields import box_of, flag_of, text_of, texts_of
from qzoom.data.readers.images import ImageFolder
from qzoom.data.readers.lines import read_json_items
from qzoom.data.readers.problems import BadRecord, Problems
from qzoom.data.record import Record


def read_native(file: Path, problems: Problems, image_root: Path | None = None) -> Iterator[Record]:
    """Read a data set of this project.

    Args:
        file: The folder's `data.jsonl`, or any file of such lines; `answers` may stand there
            instead of `answer`, and `history` holds earlier [question, answer] pairs.
        problems: Takes what is skipped.
        image_root: Folder of the pictures; the file's own if not given.

    Raises:
        InvalidRequest: If the file cannot be read at all.
    """
    images = ImageFolder(image_root or file.parent)
    for where, item in read_json_items(file, problems):
        try:
            yield Record(
                id=str(item.get("id", where)),
                picture=images.find(item.get("image")),
                question=text_of(item, "question"),
                answers=texts_of(item, "answers", "answer"),
                history=_history(item.get("history")),
                group=str(item.get("group", "")),
                kind=str(item.get("kind", "")),
                needs_detail=flag_of(item, "needs_detail"),
                evidence_px=box_of(item, "evidence_px"),
                domain=str(item.get("domain", "")),
            )
        except BadRecord as error:
            problems.add(where, error)


def _history(value: object) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadRecord("history is no list")
    pairs = [tuple(p) for p in value if isinstance(p, list) and len(p) == 2]
    if len(pairs) != len(value) or not all(isinstance(t, str) for pair in pairs for t in pair):
        raise BadRecord("history holds something else than pairs of texts")
    return tuple((str(question), str(answer)) for question, answer in pairs)
