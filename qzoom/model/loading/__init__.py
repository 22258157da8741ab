"""Checkpoint folders: formats, key maps, tokenizers, conversion."""

from qzoom.model.loading.checkpoint import Checkpoint, open_checkpoint
from qzoom.model.loading.errors import CheckpointError

__all__ = ["Checkpoint", "CheckpointError", "open_checkpoint"]
