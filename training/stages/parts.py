"""What a stage leaves behind: only the tensors that it trained, and how they are to be used.

    PART/part.json      stage, base revision, variant of the method
    PART/tensors/       files of at most 15 MB

`qzoom convert MODEL TARGET --with PART` puts parts and base together.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from qzoom.errors import InvalidRequest
from qzoom.model.config import QZoomConfig
from qzoom.model.images import processor_settings
from qzoom.model.loading import Checkpoint, keys
from qzoom.model.loading.tokenizer import has_tokenizer
from qzoom.model.loading.writer import OwnFormat, write_checkpoint
from training.stages.pieces import piece_names, read_pieces, write_pieces
from training.stages.setup import base_revision

PART_FILE = "part.json"
_OWN_FIELDS = {
    "rpn": ("has_rpn", "rpn_depth", "rpn_extra_norm", "tau_roi"),
    "gate": ("has_gate", "gate_depth", "tau_gate"),
    "post-sft": (),
}
"""Fields of QZoomConfig that only this stage decides; all others must be equal in all parts."""
_ELEMENT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Part:
    """A trained stage on disk.

    Attributes:
        folder: Where it is.
        stage: `rpn`, `gate` or `post-sft`.
        base_revision: Of the base that it was trained on.
        qzoom: Variant of the method.
    """

    folder: Path
    stage: str
    base_revision: str
    qzoom: QZoomConfig


def write_part(
    folder: Path, stage: str, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]
) -> None:
    """Write a part, replacing an older one."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    write_pieces(part / "tensors", tensors)
    values = {
        "stage": stage,
        "base_revision": base_revision(checkpoint),
        "qzoom": checkpoint.qzoom.to_dict(),
    }
    (part / PART_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)


def open_part(folder: Path) -> Part:
    """Open what a stage left; `folder` is the part or the run that holds it.

    Raises:
        InvalidRequest: If there is none.
    """
    inner = folder / "part"
    folder = inner if (inner / PART_FILE).is_file() else folder
    try:
        values = json.loads((folder / PART_FILE).read_text(encoding="utf-8"))
        return Part(
            folder,
            values["stage"],
            values["base_revision"],
            QZoomConfig.from_dict(values["qzoom"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{folder} holds no finished stage: {error}") from error


def merged_config(checkpoint: Checkpoint, parts: Sequence[Part]) -> QZoomConfig:
    """The variant of the method of base and parts together.

    Raises:
        InvalidRequest: If two parts contradict each other, naming the field and the two values.
    """
    special = {name for names in _OWN_FIELDS.values() for name in names}
    merged: dict[str, Any] = checkpoint.qzoom.to_dict()
    said_by: dict[str, Path] = {}
    for part in parts:
        values = part.qzoom.to_dict()
        for name, value in values.items():
            if name in special:
                if name in _OWN_FIELDS[part.stage]:
                    merged[name] = value
                continue
            if name in said_by and merged[name] != value:
                raise InvalidRequest(
                    f"{name} is {merged[name]!r} in {said_by[name]}, but {value!r} in {part.folder}"
                )
            merged[name], said_by[name] = value, part.folder
    return QZoomConfig.from_dict(merged)


def merge(checkpoint: Checkpoint, folders: Sequence[Path], target: Path) -> None:
    """Write base and parts as one checkpoint folder in our own format.

    Args:
        checkpoint: The base; branches that it has already stay unless a part replaces them.
        folders: Parts or runs; a Post-SFT part changes the base itself.
        target: Must not exist or be empty.

    Raises:
        InvalidRequest: If a part belongs to another base or contradicts another part.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidRequest(f"{target} exists and is not empty")
    parts = [open_part(folder) for folder in folders]
    revision = base_revision(checkpoint)
    for part in parts:
        if part.base_revision != revision and not _was_tuned(part, parts):
            raise InvalidRequest(
                f"base_revision is {part.base_revision!r} in {part.folder}, but {revision!r} in "
                f"{checkpoint.path}"
            )
    qzoom = merged_config(checkpoint, parts)
    sources = {name: part for part in parts for name in piece_names(part.folder / "tensors")}
    shapes = {name: tuple(at.shape) for name, at in checkpoint.locations.items()}
    for part in parts:
        shapes |= {n: tuple(s) for n, s in piece_names(part.folder / "tensors").items()}
    is_tied = bool(checkpoint.hf_config.tie_word_embeddings)
    num_bytes = {
        name: math.prod(shape) * _ELEMENT_BYTES
        for name, shape in shapes.items()
        if not (is_tied and name == keys.LM_HEAD)
    }

    def read(names: Sequence[str]) -> dict[str, Tensor]:
        own = [name for name in names if name not in sources]
        found = checkpoint.tensors(own) if own else {}
        dtype = next(iter(checkpoint.tensors([keys.EMBEDDINGS]).values())).dtype
        wanted = set(names)
        for part in parts:
            if any(sources.get(name) is part for name in wanted):
                found |= {
                    name: tensor.to(dtype)
                    for name, tensor in read_pieces(part.folder / "tensors")
                    if name in wanted and sources[name] is part
                }
        return found

    description = OwnFormat(
        family=checkpoint.family,
        hf_config=checkpoint.hf_config,
        qzoom=qzoom,
        eos_ids=checkpoint.eos_ids,
        preprocessor_config=processor_settings(checkpoint),
        tokenizer=checkpoint.tokenizer if has_tokenizer(checkpoint.path) else None,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        folder = Path(scratch) / target.name
        folder.mkdir()
        write_checkpoint(folder, description, num_bytes, read)
        if target.is_dir():
            target.rmdir()
        shutil.move(folder, target)


def _was_tuned(part: Part, parts: Sequence[Part]) -> bool:
    """Whether a part was trained on what a Post-SFT part of the same call makes."""
    return any(p.stage == "post-sft" for p in parts) and part.stage != "post-sft"
