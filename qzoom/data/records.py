"""Which records does a name on the command line stand for?

builtin:train?seed=3&count=4000    pictures of the generator, drawn on the fly
FOLDER                             a data set as `qzoom data make` writes it
FILE.jsonl                         the same lines, pictures relative to the file
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl, urlsplit

from qzoom.data.record import PictureFile, Record
from qzoom.data.splits import Split
from qzoom.errors import InvalidRequest, NotFound

DATA_FILE = "data.jsonl"
_BUILTIN = "builtin"
_DEFAULTS = {"seed": 0, "count": 1000}


def open_records(name: str) -> list[Record]:
    """Read a data set.

    Args:
        name: See the module.

    Raises:
        NotFound: If there is no such file.
        InvalidRequest: If the name or a line of the file is not understood.
    """
    if name.partition(":")[0] == _BUILTIN:
        return list(_builtin(name))
    path = Path(name)
    file = path / DATA_FILE if path.is_dir() else path
    if not file.is_file():
        raise NotFound(
            f"{file} does not exist; data is {_BUILTIN}:SPLIT, a folder or a .jsonl file"
        )
    return list(_lines(file))


def _builtin(name: str) -> Iterator[Record]:
    from qzoom.data.builtin_records import builtin_records  # noqa: PLC0415 - needs the fonts

    url = urlsplit(name)
    values = dict(_DEFAULTS)
    for key, text in parse_qsl(url.query, keep_blank_values=True):
        if key not in values or not text.isdecimal():
            raise InvalidRequest(f"{name}: {key}={text} is not understood; known: seed=N, count=N")
        values[key] = int(text)
    if url.path not in get_args(Split):
        known = ", ".join(get_args(Split))
        raise InvalidRequest(f"{name}: split is {url.path!r}, must be one of {known}")
    split: Split = url.path  # type: ignore[assignment]
    yield from builtin_records(split, values["seed"], values["count"])


def _lines(file: Path) -> Iterator[Record]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield _record(json.loads(line), file.parent, number)
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidRequest(f"{file}:{number} is no record: {error!r}") from error


def _record(values: Mapping[str, Any], folder: Path, number: int) -> Record:
    answers = values.get("answers") or [values["answer"]]
    box = values.get("evidence_px")
    if box is not None:
        x0, y0, x1, y1 = (float(v) for v in box)
        box = (x0, y0, x1, y1)
    return Record(
        id=str(values.get("id", number)),
        picture=PictureFile(folder / values["image"]),
        question=str(values["question"]),
        answers=tuple(str(answer) for answer in answers),
        history=tuple((str(q), str(a)) for q, a in values.get("history", ())),
        group=str(values.get("group", "")),
        needs_detail=values.get("needs_detail"),
        evidence_px=box,
    )
