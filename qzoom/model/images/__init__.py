"""Pixels to model inputs: resizing and patching on the CPU, bit-equal to the published pictures."""

from qzoom.model.images.llava import LlavaPreprocessor
from qzoom.model.images.patches import Patches, Pixels, Preprocessor
from qzoom.model.images.qwen import QwenPreprocessor
from qzoom.model.images.settings import default_settings, processor_settings
from qzoom.model.loading import Checkpoint

__all__ = [
    "Patches",
    "Pixels",
    "Preprocessor",
    "default_settings",
    "open_preprocessor",
    "processor_settings",
]


def open_preprocessor(checkpoint: Checkpoint) -> Preprocessor:
    """Build the preprocessing of a checkpoint's family.

    Raises:
        CheckpointError: If preprocessor_config.json contradicts the model.
    """
    if checkpoint.family == "llava":
        return LlavaPreprocessor(checkpoint)
    return QwenPreprocessor(checkpoint)
