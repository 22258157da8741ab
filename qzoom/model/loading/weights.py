"""Where in a folder does each tensor lie? Reads names first and tensors only when asked."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from qzoom.model.loading.errors import CheckpointError

BRANCH_FILE = "qzoom.safetensors"
"""The branches in our own format; transformers does not look at it."""

_SAMPLE_BYTES = 4096
_NUM_SAMPLES = 256


@dataclass(frozen=True, slots=True)
class Location:
    """One stored tensor."""

    file: Path
    name: str
    shape: tuple[int, ...]


def locate_tensors(folder: Path, canonical: Callable[[str], str | None]) -> dict[str, Location]:
    """Map canonical names to the tensors of all safetensors files of a folder.

    Args:
        folder: Holds model.safetensors or an index with shards, perhaps also qzoom.safetensors.
        canonical: Maps stored names; None drops a tensor.

    Raises:
        CheckpointError: If there are no such files, one is missing or cannot be read, or only
            pickled weights are there.
    """
    found: dict[str, Location] = {}
    for file in weight_files(folder):
        for stored, shape in _shapes(file).items():
            name = canonical(stored)
            if name is not None:
                found[name] = Location(file, stored, shape)
    return found


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a checkpoint.

    Raises:
        CheckpointError: As `locate_tensors`.
    """
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        weight_map = read_json(index).get("weight_map", {})
        files = [folder / name for name in sorted(set(weight_map.values()))]
    elif single.is_file():
        files = [single]
    else:
        pickled = sorted(file.name for file in folder.glob("pytorch_model*.bin"))
        if pickled:
            raise CheckpointError(
                f"{folder} holds pickled weights ({pickled[0]}), which can run code when they "
                "are opened; only safetensors are accepted"
            )
        raise CheckpointError(f"{folder} holds neither {single.name} nor {index.name}")
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}, which its index names")
    branches = folder / BRANCH_FILE
    return [*files, branches] if branches.is_file() else files


def read_tensors(locations: dict[str, Location]) -> dict[str, Tensor]:
    """Read exactly these tensors, in the type in which they are stored.

    Raises:
        CheckpointError: If a file cannot be read.
    """
    tensors: dict[str, Tensor] = {}
    for path in sorted({location.file for location in locations.values()}):
        try:
            with safe_open(path, framework="pt") as file:
                for name, location in locations.items():
                    if location.file == path:
                        tensors[name] = file.get_tensor(location.name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
    return tensors


def content_hash(files: Iterable[Path], *extra: bytes) -> str:
    """Fingerprint weights without reading all of them: sizes, headers and samples throughout.

    Training moves every tensor, so a megabyte per file tells two checkpoints apart.

    Args:
        files: Files to sample.
        *extra: Further bytes that belong to the identity, hashed whole.

    Returns:
        digest: 16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in extra:
        digest.update(hashlib.sha256(part).digest())
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name}:{size};".encode())
        with path.open("rb") as file:
            for sample in range(_NUM_SAMPLES):
                file.seek(sample * max(size // _NUM_SAMPLES, 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: If the file is missing, not JSON or not an object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not a {type(values).__name__}")
    return values


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
