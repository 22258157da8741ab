"""How does a replica open its part of the checkpoint? Imported in the compute thread only."""

import torch

from qzoom.contracts.keys import fingerprint
from qzoom.model.loading import Checkpoint, open_checkpoint
from qzoom.settings import StageSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def open_for(settings: StageSettings) -> Checkpoint:
    """Open the checkpoint that the settings name; no tensor is read.

    Raises:
        CheckpointError: Saying what is wrong with the folder.
    """
    return open_checkpoint(settings.checkpoint, settings.preset, settings.base)


def dtype_of(settings: StageSettings) -> torch.dtype:
    """Translate the name of the element type."""
    return DTYPES[settings.dtype]


def fingerprint_of(checkpoint: Checkpoint, settings: StageSettings) -> bytes:
    """Name the model for the keys of cached state: weights, behaviour and element type."""
    return fingerprint(checkpoint.revision, repr(checkpoint.qzoom), settings.dtype)
