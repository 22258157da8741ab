"""A picture at a lower resolution, where the vision tower's input is fixed (LLaVA-1.5)."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qzoom.model.loading import Checkpoint


def at_budget(
    checkpoint: Checkpoint, pixels: NDArray[np.uint8], max_tokens: int | None
) -> tuple[NDArray[np.uint8], int | None]:
    """Prepare a picture for a budget.

    A tower of fixed input always gives the same number of tokens; there a picture of fewer tokens
    is one that is made smaller first, to as many pixels as these tokens show.

    Args:
        checkpoint: Whose vision tower will see it.
        pixels: The picture.
        max_tokens: Budget; None takes the model's.

    Returns:
        pixels: What is given to the encoder.
        max_tokens: Its budget.
    """
    if checkpoint.family != "llava" or max_tokens is None:
        return pixels, max_tokens
    vision = checkpoint.hf_config.vision_config
    side = int(vision.image_size)
    cells = (side // int(vision.patch_size)) ** 2
    longest = round(side * math.sqrt(min(1.0, max_tokens / cells)))
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return pixels, None
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size)), None
