"""What is a decoded picture? Its pixels, and the identity that follows from them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A decoded picture.

    Attributes:
        pixels: [H, W, 3], uint8, RGB, C-contiguous, read-only: the memory that the decoding
            process wrote, without a copy; freed with the last array that refers to it.
        digest: SHA-256 over size and pixels in hexadecimal: the picture's identity. It names the
            content, wherever the picture came from and however it was encoded.
    """

    pixels: NDArray[np.uint8]
    digest: str

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[1], self.pixels.shape[0]
