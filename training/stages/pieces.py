"""Tensors on disk in files of at most 15 MB, however large a tensor is."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from qzoom.errors import InvalidRequest

MAX_FILE_BYTES = 15_000_000
_HEADER_BYTES = 400_000
"""Room for names and metadata."""

_INDEX = "pieces.json"


def write_pieces(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors into a new folder.

    Args:
        folder: Made; must not exist.
        tensors: By name; moved to the CPU one file at a time.
    """
    folder.mkdir(parents=True)
    index: dict[str, Any] = {}
    number, batch, size = 0, dict[str, Tensor](), 0
    for name, tensor in tensors.items():
        flat = tensor.detach().reshape(-1)
        index[name] = {"shape": list(tensor.shape), "pieces": []}
        for part in _cut(flat):
            num_bytes = part.numel() * part.element_size()
            if batch and size + num_bytes > MAX_FILE_BYTES - _HEADER_BYTES:
                _save(batch, folder / f"{number:05d}.safetensors")
                number, batch, size = number + 1, {}, 0
            key = f"{name}#{len(index[name]['pieces'])}"
            index[name]["pieces"].append(number)
            batch[key] = part.cpu().clone()
            size += num_bytes
    if batch:
        _save(batch, folder / f"{number:05d}.safetensors")
    _write_synced(folder / _INDEX, json.dumps(index).encode())


def read_pieces(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Read tensors one by one.

    Raises:
        InvalidRequest: If a file is missing or broken.
    """
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        for name, entry in index.items():
            parts = []
            for piece, number in enumerate(entry["pieces"]):
                with safe_open(folder / f"{number:05d}.safetensors", framework="pt") as file:
                    parts.append(file.get_tensor(f"{name}#{piece}"))
            whole = torch.cat(parts) if parts else torch.empty(0)
            yield name, whole.reshape(entry["shape"])
    except (OSError, ValueError, KeyError, SafetensorError, RuntimeError) as error:
        raise InvalidRequest(f"{folder} cannot be read: {error}") from error


def piece_names(folder: Path) -> dict[str, list[int]]:
    """Names and shapes, without reading a tensor.

    Raises:
        InvalidRequest: If there is no index.
    """
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        return {name: list(entry["shape"]) for name, entry in index.items()}
    except (OSError, ValueError, KeyError) as error:
        raise InvalidRequest(f"{folder} cannot be read: {error}") from error


def _cut(flat: Tensor) -> Iterator[Tensor]:
    most = (MAX_FILE_BYTES - _HEADER_BYTES) // max(flat.element_size(), 1)
    for start in range(0, max(flat.numel(), 1), most):
        yield flat[start : start + most]


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file(tensors, path)
    path.chmod(0o644)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
