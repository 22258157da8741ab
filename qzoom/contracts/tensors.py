"""How do tensors travel between services? As one flat buffer and a small header.

A `Bundle` is built once by the stage that returns it and read without a copy by the stage that
receives it. The buffer is a one-dimensional uint8 array, which Ray's object store hands over
zero-copy and read-only; the header is a few hundred bytes and travels by value. torch is not
needed here: `qzoom.model.handoff` turns tensors into bundles and back.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
"""Every tensor starts at a multiple of this many bytes, a cache line."""

Buffer = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Where one tensor lies in the buffer.

    Attributes:
        name: Key of the tensor in its bundle.
        dtype: torch's name of the element type, such as `float32` or `bfloat16`.
        shape: Sizes of the axes.
        offset: First byte in the buffer, a multiple of `ALIGNMENT`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class BundleHeader:
    """What a buffer holds.

    Attributes:
        tensors: The tensors in the order of their offsets.
        num_bytes: Length of the buffer.
    """

    tensors: tuple[TensorSpec, ...]
    num_bytes: int
