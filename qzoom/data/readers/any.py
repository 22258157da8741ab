"""Which reader does a path need?"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from qzoom.data.readers.folders import is_dataset_folder, read_folder
from qzoom.data.readers.llava import read_llava
from qzoom.data.readers.native import read_native
from qzoom.data.readers.problems import Problems
from qzoom.data.readers.stages import read_stage1, read_stage3
from qzoom.data.record import Record
from qzoom.errors import InvalidRequest, NotFound

DATA_FILE = "data.jsonl"
DataFormat = Literal["native", "llava", "stage1", "stage3", "folder"]


def detect_format(path: Path) -> DataFormat:
    """Tell the format from the path, and for JSON lines from the first of them.

    Raises:
        NotFound: If there is nothing at the path, or a folder holds no data set.
        InvalidRequest: If it could be several formats, or is none.
    """
    if not path.exists():
        raise NotFound(f"there is no data set at {path}")
    if path.is_dir():
        if (path / DATA_FILE).is_file():
            return "native"
        if is_dataset_folder(path) or (path / "dataset_dict.json").is_file():
            return "folder"
        raise NotFound(
            f"{path} holds neither {DATA_FILE}, Parquet files nor what save_to_disk writes"
        )
    match path.suffix:
        case ".jsonl" | ".json":
            return "native" if _has_questions(path) else "llava"
        case ".parquet":
            return "folder"
        case ".pkl" | ".pickle":
            raise InvalidRequest(f"{path} is a pickle: say whether it is of stage1 or of stage3")
    raise InvalidRequest(f"{path} has an ending that is not known: {path.suffix or 'none'}")


def _has_questions(path: Path) -> bool:
    with path.open("rb") as file:
        line = file.readline(1 << 20)
    try:
        first = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and "question" in first


def read_records(
    path: Path,
    problems: Problems,
    data_format: DataFormat | None = None,
    *,
    split: str = "",
    image_root: Path | None = None,
) -> Iterator[Record]:
    """Read any data set as records.

    Args:
        path: A file or folder.
        problems: Takes what is skipped.
        data_format: Which reader; detected if not given.
        split: Split of a Hugging Face folder.
        image_root: Folder of pictures that are given by path; the data set's own if not given.

    Raises:
        NotFound: If there is nothing at the path.
        InvalidRequest: If it cannot be read at all.
    """
    match data_format or detect_format(path):
        case "native":
            file = path / DATA_FILE if path.is_dir() else path
            yield from read_native(file, problems, image_root)
        case "llava":
            yield from read_llava(path, problems, image_root)
        case "folder":
            yield from read_folder(path, problems, split, image_root)
        case "stage1":
            for sample in read_stage1(path, problems, image_root):
                yield sample.record
        case "stage3":
            for trajectory in read_stage3(path, problems, image_root):
                yield trajectory.record
