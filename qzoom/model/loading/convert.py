"""From the authors' format to ours, once, so that plain transformers opens the base model too."""

import math
import shutil
import tempfile
from pathlib import Path

from qzoom.model.config import Preset
from qzoom.model.images import processor_settings
from qzoom.model.loading import keys
from qzoom.model.loading.checkpoint import Checkpoint, open_checkpoint
from qzoom.model.loading.errors import CheckpointError
from qzoom.model.loading.tokenizer import has_tokenizer
from qzoom.model.loading.weights import read_json
from qzoom.model.loading.writer import OwnFormat, write_checkpoint, write_json

_ORIGIN_FILE = "conversion.json"
"""Says from which revision a folder was converted."""

_ELEMENT_BYTES = 4
"""Assumed when shards are cut; float32 is the widest type that weights are stored in."""


def convert(
    source: Path, target: Path, *, preset: Preset | None = None, base: Path | None = None
) -> bool:
    """Convert a checkpoint folder into our own format.

    Writes beside the target and renames at the end, so that no half of a checkpoint is ever
    there.

    Args:
        source: Folder in any format that `open_checkpoint` reads.
        target: Folder to make.
        preset: As in `open_checkpoint`.
        base: As in `open_checkpoint`; the result is complete.

    Returns:
        is_new: False if the target already is this conversion, in which case nothing is done.

    Raises:
        CheckpointError: If the source cannot be opened, or the target holds anything else.
    """
    checkpoint = open_checkpoint(source, preset, base)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        if _origin(target) == checkpoint.revision:
            return False
        raise CheckpointError(f"{target} exists and is not a conversion of {source}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        folder = Path(scratch) / target.name
        folder.mkdir()
        _write(checkpoint, folder)
        if target.is_dir():
            target.rmdir()
        shutil.move(folder, target)
    return True


def _write(checkpoint: Checkpoint, folder: Path) -> None:
    is_tied = bool(checkpoint.hf_config.tie_word_embeddings)
    num_bytes = {
        name: math.prod(location.shape) * _ELEMENT_BYTES
        for name, location in checkpoint.locations.items()
        if not (is_tied and name == keys.LM_HEAD)
    }
    description = OwnFormat(
        family=checkpoint.family,
        hf_config=checkpoint.hf_config,
        qzoom=checkpoint.qzoom,
        eos_ids=checkpoint.eos_ids,
        preprocessor_config=processor_settings(checkpoint),
        tokenizer=checkpoint.tokenizer if has_tokenizer(checkpoint.path) else None,
    )
    write_checkpoint(folder, description, num_bytes, checkpoint.tensors)
    write_json(folder / _ORIGIN_FILE, {"source_revision": checkpoint.revision})


def _origin(folder: Path) -> str | None:
    file = folder / _ORIGIN_FILE
    return read_json(file).get("source_revision") if file.is_file() else None
