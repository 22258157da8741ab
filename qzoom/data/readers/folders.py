"""Hugging Face data sets on disk, row by row: Parquet files, or what `save_to_disk` wrote.

Needs pyarrow (extra `evaluate`), not the `datasets` package: both layouts are plain Arrow. Nothing
is fetched and no loading script is run.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qzoom.data.readers.fields import box_of, flag_of, text_of, texts_of
from qzoom.data.readers.images import ImageFolder, image_bytes
from qzoom.data.readers.problems import BadRecord, Problems
from qzoom.data.record import PictureSource, Record
from qzoom.errors import InvalidRequest

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 16
"""Rows that are held at a time: those of picture benchmarks are megabytes each."""

Row = dict[str, Any]


def is_dataset_folder(folder: Path) -> bool:
    """Whether a folder holds a data set of this kind."""
    return (folder / "state.json").is_file() or bool(_parquet_files(folder, ""))


def read_rows(folder: Path, split: str = "") -> Iterator[tuple[str, Row]]:
    """Yield every row of a data set.

    Args:
        folder: The data set's folder, a split's folder, or one Parquet file.
        split: Name of the split; every row if "" and nothing says otherwise.

    Yields:
        ("file:row", columns).

    Raises:
        InvalidRequest: If there is no such data set, or a file is broken.
    """
    import pyarrow as pa

    where = folder / split if split and (folder / split / "state.json").is_file() else folder
    try:
        if (where / "state.json").is_file():
            yield from _saved_rows(where)
            return
        files = [where] if where.is_file() else _parquet_files(where, split)
        if not files:
            what = f" of split {split!r}" if split else ""
            raise InvalidRequest(f"{folder} holds no Parquet file{what}, and no state.json")
        for file in files:
            yield from _parquet_rows(file)
    except (OSError, pa.ArrowException) as error:
        raise InvalidRequest(f"{folder} cannot be read: {str(error)[:200]}") from None


def _parquet_files(folder: Path, split: str) -> list[Path]:
    """Files of a split: named after it, or in a folder named after it."""
    files = sorted(folder.rglob("*.parquet")) if folder.is_dir() else []
    return [f for f in files if not split or f.name.startswith(split) or split in f.parent.parts]


def _saved_rows(folder: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow as pa

    try:
        names = [
            part["filename"]
            for part in json.loads((folder / "state.json").read_text())["_data_files"]
        ]
    except (ValueError, KeyError, TypeError):
        raise InvalidRequest(f"{folder / 'state.json'} names no data files") from None
    for name in names:
        path = (folder / str(name)).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise InvalidRequest(f"{folder / 'state.json'} names {name!r}, outside of the folder")
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as batches:
            yield from _numbered(name, batches)


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        yield from _numbered(path.name, file.iter_batches(batch_size=_ROWS))


def _numbered(name: str, batches: "Iterator[pa.RecordBatch]") -> Iterator[tuple[str, Row]]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS):
            for row in batch.slice(start, _ROWS).to_pylist():
                yield f"{name}:{number}", row
                number += 1


def image_of(row: Mapping[str, Any], folder: ImageFolder, *names: str) -> PictureSource:
    """Take a picture out of a row: an image column, bytes, base64 text or a path.

    Raises:
        BadRecord: If there is none, or it cannot be read.
    """
    value = next((row[name] for name in names if row.get(name) is not None), None)
    if isinstance(value, Mapping):  # the `Image` feature of `datasets`
        if isinstance(data := value.get("bytes"), bytes):
            return image_bytes(data, str(value.get("path") or ""))
        value = value.get("path")
    if isinstance(value, bytes):
        return image_bytes(value)
    if isinstance(value, str) and len(value) > 1024:
        try:
            return image_bytes(base64.b64decode(value, validate=True))
        except binascii.Error:
            raise BadRecord("the image is no base64") from None
    if value is None:
        raise BadRecord(f"the record has no {' or '.join(names)}")
    return folder.find(value)


def read_folder(
    folder: Path, problems: Problems, split: str = "", image_root: Path | None = None
) -> Iterator[Record]:
    """Read a data set with the usual columns.

    Columns: `image`, `question` (or `prompt`, `text`), `answer`, `answers` or
    `label`; `id`, `group` (or `category`), `needs_detail` and `evidence_px` where they exist.

    Args:
        folder: The data set.
        problems: Takes what is skipped.
        split: Name of the split.
        image_root: Folder of the pictures that are given by path; the data set's if not given.

    Raises:
        InvalidRequest: If the data set cannot be read at all.
    """
    images = ImageFolder(image_root or folder)
    for where, row in read_rows(folder, split):
        try:
            yield Record(
                id=str(row.get("id", row.get("question_id", where))),
                picture=image_of(row, images, "image"),
                question=text_of(row, "question", "prompt", "text"),
                answers=texts_of(row, "answers", "answer", "label"),
                group=str(row.get("group", row.get("category", ""))),
                needs_detail=flag_of(row, "needs_detail"),
                evidence_px=box_of(row, "evidence_px"),
            )
        except BadRecord as error:
            problems.add(where, error)
