"""Labels on disk: one file per few pictures, written whole or not at all, so that any run resumes.

FOLDER/job.json              what was asked for; a run that asks for something else is refused
FOLDER/shard-00000.safetensors   arrays, and one JSON record per question as metadata
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from qzoom.data.record import Record
from qzoom.errors import InvalidRequest, NotFound

JOB_FILE = "job.json"
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Shard:
    """Labels of a few pictures.

    Attributes:
        records: One JSON object per question.
        arrays: What the kind of label says.
    """

    records: Sequence[dict[str, Any]]
    arrays: Arrays


def group_pictures(records: Sequence[Record]) -> list[list[Record]]:
    """Questions by picture, in the order in which the pictures first occur."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.picture.key, []).append(record)
    return list(groups.values())


class LabelFolder:
    """A folder of labels.

    Args:
        path: The folder.
        job: What was asked for.
    """

    def __init__(self, path: Path, job: Mapping[str, Any]) -> None:
        self.path, self.job = path, job

    @classmethod
    def create(cls, path: Path, job: Mapping[str, Any]) -> "LabelFolder":
        """Begin a run, or go on with the same one.

        Raises:
            InvalidRequest: If the folder holds labels that something else was asked for, naming
                the first field and the two values.
        """
        job = json.loads(json.dumps(job))
        file = path / JOB_FILE
        if file.is_file():
            stored = cls.open(path).job
            for name in sorted({*stored, *job}):
                if stored.get(name) != job.get(name):
                    raise InvalidRequest(
                        f"{path} holds labels made with {name} = {stored.get(name)!r}, asked for "
                        f"is {job.get(name)!r}; give another folder"
                    )
        else:
            path.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(job, indent=2, sort_keys=True).encode() + b"\n")
        return cls(path, job)

    @classmethod
    def open(cls, path: Path) -> "LabelFolder":
        """Open finished labels.

        Raises:
            NotFound: If there are none.
        """
        file = path / JOB_FILE
        if not file.is_file():
            raise NotFound(f"{path} holds no labels; `qzoom label` makes them")
        job: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return cls(path, job)

    def missing(self) -> list[int]:
        """Numbers of the shards that are still to be made."""
        return [i for i in range(self.job["shards"]) if not self._file(i).is_file()]

    def write(self, number: int, shard: Shard) -> None:
        """Write a shard; a kill leaves either nothing or all of it."""
        part = self._file(number).with_suffix(".part")
        metadata = {"records": json.dumps(list(shard.records))}
        save_file(dict(shard.arrays) or {"empty": np.zeros(1, np.int8)}, part, metadata=metadata)
        part.chmod(0o644)
        os.replace(part, self._file(number))

    def read(self) -> Iterator[Shard]:
        """Read all shards.

        Raises:
            InvalidRequest: If some are missing or broken.
        """
        missing = self.missing()
        if missing:
            raise InvalidRequest(
                f"{self.path} lacks {len(missing)} of {self.job['shards']} shards; the same "
                "`qzoom label` command goes on where it was stopped"
            )
        for number in range(self.job["shards"]):
            try:
                with safe_open(self._file(number), framework="np") as file:
                    records = json.loads(file.metadata()["records"])
                    names: list[str] = file.keys()
                    arrays = {name: file.get_tensor(name) for name in names}
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                raise InvalidRequest(
                    f"{self._file(number)} is broken ({error}); delete it and label again"
                ) from error
            yield Shard(records, arrays)

    def _file(self, number: int) -> Path:
        return self.path / f"shard-{number:05d}.safetensors"


def write_whole(file: Path, content: bytes) -> None:
    """Replace a file atomically."""
    part = file.with_name(file.name + ".part")
    part.write_bytes(content)
    os.replace(part, file)
