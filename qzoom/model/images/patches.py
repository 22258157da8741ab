"""What does every backbone's preprocessing take and give?"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qzoom.contracts.budget import ImageRules
from qzoom.contracts.stages import Box

Pixels = NDArray[np.uint8]
"""A decoded picture [height, width, 3], RGB."""


@dataclass(frozen=True, slots=True)
class Patches:
    """One picture as the vision tower takes it.

    Attributes:
        pixel_values: Normalised pixels, float32: Qwen flattened patches [P, 3 * 2 * px * px] in
            merge-block order; LLaVA-1.5 [3, 336, 336].
        grid: (H, W) in cells.
    """

    pixel_values: NDArray[np.float32]
    grid: tuple[int, int]


class Preprocessor(Protocol):
    """Turns pictures and crops into patches; stateless, safe to share between threads."""

    rules: ImageRules

    def coarse(self, image: Pixels, max_tokens: int | None = None) -> Patches:
        """Prepare a whole picture (budget None: the model's).

        Raises:
            InvalidRequest: If the picture's shape or the budget is not acceptable.
        """
        ...

    def roi(self, image: Pixels, box_px: Box, max_tokens: int | None = None) -> Patches:
        """Prepare a crop of the source picture (budget None: the model's).

        Raises:
            InvalidRequest: If the crop's shape or the budget is not acceptable.
        """
        ...


def to_picture(image: Pixels) -> Image.Image:
    """Wrap decoded pixels.

    Raises:
        ValueError: If they are not uint8 [height, width, 3].
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"pixels must be uint8 [h, w, 3], got {image.dtype} {image.shape}")
    return Image.fromarray(image)
