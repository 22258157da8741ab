"""Pictures to patches exactly as transformers' Qwen2-VL image processor (PIL backend) does.

Written out because training makes thousands of small pictures a minute; a test compares both.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

PATCH = 14
MERGE = 2
CELL = PATCH * MERGE
"""Side of a visual token in pixels."""

_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)

Grid = tuple[int, int]
"""(rows, columns) of visual tokens."""


@lru_cache(maxsize=65536)
def token_grid(width: int, height: int, min_tokens: int, max_tokens: int) -> Grid:
    """Visual tokens of a picture under a budget.

    Args:
        width: Source width in pixels.
        height: Source height in pixels.
        min_tokens: Fewest visual tokens.
        max_tokens: Most visual tokens.

    Returns:
        (rows, columns) of merged cells.
    """
    new_h, new_w = smart_resize(
        height, width, CELL, min_tokens * CELL * CELL, max_tokens * CELL * CELL
    )
    return new_h // CELL, new_w // CELL


def patches(image: Image.Image, grid: Grid) -> NDArray[np.float32]:
    """Resize, normalise and cut a picture.

    Args:
        image: RGB picture.
        grid: Its grid of visual tokens.

    Returns:
        [P, 588] patches (channel, row, column), the four of a visual token in a row. One frame
        only: the processor repeats a still picture, which the patch embedding folds into its
        weights.
    """
    rows, cols = grid
    resized = image.resize((cols * CELL, rows * CELL), Image.Resampling.BICUBIC)
    x = np.asarray(resized, dtype=np.float32) * np.float32(1 / 255)
    x = (x - _MEAN) / _STD
    x = x.reshape(rows, MERGE, PATCH, cols, MERGE, PATCH, 3)
    x = x.transpose(0, 3, 1, 4, 6, 2, 5)
    return np.ascontiguousarray(x.reshape(rows * cols * MERGE * MERGE, 3 * PATCH * PATCH))


@lru_cache(maxsize=1024)
def patch_positions(grid: Grid, window_cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row, column and attention window of every patch, in the order of `patches`.

    Args:
        grid: Grid of visual tokens.
        window_cells: Side of the attention window in visual tokens.

    Returns:
        ([P, 2] row and column, [P] number of the window).
    """
    rows, cols = grid
    r, c, i, j = np.meshgrid(
        np.arange(rows), np.arange(cols), np.arange(MERGE), np.arange(MERGE), indexing="ij"
    )
    position = np.stack([(r * MERGE + i).ravel(), (c * MERGE + j).ravel()], axis=1)
    window = (r // window_cells) * 1000 + c // window_cells
    return position.astype(np.int64), window.ravel().astype(np.int64)
