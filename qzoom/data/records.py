"""Which records does a name on the command line stand for?

builtin:train?seed=3&count=4000    pictures of the generator, drawn on the fly
PATH                               a file or folder that a reader knows (`qzoom.data.readers`)
FORMAT:PATH                        the same, read as this format, such as stage3:answers.pkl
"""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args
from urllib.parse import parse_qsl, urlsplit

from qzoom.data.readers import DataFormat, Problems, read_records
from qzoom.data.record import Record
from qzoom.data.splits import Split
from qzoom.errors import InvalidRequest

_BUILTIN = "builtin"
_DEFAULTS = {"seed": 0, "count": 1000}


def open_records(
    name: str, problems: Problems | None = None, *, split: str = "", image_root: Path | None = None
) -> list[Record]:
    """Read a whole data set; see `iter_records`."""
    return list(iter_records(name, problems, split=split, image_root=image_root))


def iter_records(
    name: str, problems: Problems | None = None, *, split: str = "", image_root: Path | None = None
) -> Iterator[Record]:
    """Read a data set record by record.

    Args:
        name: See the module.
        problems: Takes the records that are skipped; without it the first bad one ends the reading.
        split: Split of a Hugging Face folder.
        image_root: Folder of pictures that are given by path; the data set's own if not given.

    Raises:
        NotFound: If there is no such data set.
        InvalidRequest: If the name is not understood, or a record is bad and nobody takes it.
    """
    kind, _, rest = name.partition(":")
    if kind == _BUILTIN:
        yield from _builtin(name)
        return
    formats: dict[str, DataFormat] = {f: f for f in get_args(DataFormat)}
    path, skipped = Path(rest if kind in formats else name), Problems()
    found = read_records(
        path,
        skipped if problems is None else problems,
        formats.get(kind),
        split=split,
        image_root=image_root,
    )
    for record in found:
        _refuse(path, skipped)
        yield record
    _refuse(path, skipped)


def _refuse(path: Path, skipped: Problems) -> None:
    if skipped.count:
        raise InvalidRequest(f"{path.name} holds a bad record: {skipped.first[0]}")


def _builtin(name: str) -> Iterator[Record]:
    from qzoom.data.builtin_records import builtin_records  # noqa: PLC0415 - needs the fonts

    url = urlsplit(name)
    values = dict(_DEFAULTS)
    for key, text in parse_qsl(url.query, keep_blank_values=True):
        if key not in values or not text.isdecimal():
            raise InvalidRequest(f"{name}: {key}={text} is not understood; known: seed=N, count=N")
        values[key] = int(text)
    splits: dict[str, Split] = {split: split for split in get_args(Split)}
    split = splits.get(url.path)
    if split is None:
        known = ", ".join(splits)
        raise InvalidRequest(f"{name}: split is {url.path!r}, must be one of {known}")
    yield from builtin_records(split, values["seed"], values["count"])
