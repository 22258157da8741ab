"""Pixels to model inputs: resizing and patching on the CPU, bit-equal to the published pictures."""

from qzoom.model.images.llava import LlavaPreprocessor
from qzoom.model.images.patches import Patches, Pixels, Preprocessor
from qzoom.model.images.qwen import QwenPreprocessor
from qzoom.model.loading import Checkpoint

__all__ = ["Patches", "Pixels", "Preprocessor", "open_preprocessor"]


def open_preprocessor(checkpoint: Checkpoint) -> Preprocessor:
    """Build the preprocessing of a checkpoint's family.

    Raises:
        ValueError: If preprocessor_config.json contradicts the model.
    """
    if checkpoint.family == "llava":
        return LlavaPreprocessor(checkpoint)
    return QwenPreprocessor(checkpoint)
