"""Where is the evidence? From the RPN's map to a box in cells and in source pixels (Eq. 6-7).

Runs on the CPU after the RPN. Boxes are (x0, y0, x1, y1), right and lower edges exclusive. The
published code computes pixels in float32 and truncates; the same arithmetic is used here, since
one rounding more or less moves an edge by a pixel.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from qzoom.contracts.stages import Box

FloatBox = tuple[float, float, float, float]

_BLUR = (0.2740686, 0.4518628, 0.2740686)
"""3-tap Gaussian, sigma 1."""
_CORNER_MIN_CELLS = 256
"""Maps of this size or smaller have no corner sink."""


def corner_mask(grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark the cells that survive the corner rule: a sink in the first row and column.

    Args:
        grid: (H, W).

    Returns:
        keep: [H, W]; False for the first quarter of column 0 and of row 0 of large maps.
    """
    height, width = grid
    keep = np.ones(grid, np.bool_)
    if height * width > _CORNER_MIN_CELLS:
        keep[: max(1, height // 4), 0] = False
        keep[0, : max(1, width // 4)] = False
    return keep


def smooth(scores_HW: Tensor) -> Tensor:
    """Blur with a 3x3 Gaussian of sigma 1 (G of Eq. 6).

    The border is reflected without repeating its cell. An axis of one cell has no neighbour to
    reflect and is left as it is (the published code fails on such maps).

    Args:
        scores_HW: Scores in [0, 1].

    Returns:
        smoothed_HW: Same shape, float32.
    """
    taps = torch.tensor(_BLUR, dtype=torch.float32, device=scores_HW.device)
    smoothed = scores_HW.float()[None, None]
    if scores_HW.shape[0] > 1:
        smoothed = functional.conv2d(
            functional.pad(smoothed, (0, 0, 1, 1), mode="reflect"), taps.view(1, 1, 3, 1)
        )
    if scores_HW.shape[1] > 1:
        smoothed = functional.conv2d(
            functional.pad(smoothed, (1, 1, 0, 0), mode="reflect"), taps.view(1, 1, 1, 3)
        )
    return smoothed[0, 0]


def bounding_box(mask_HW: NDArray[np.bool_]) -> Box | None:
    """Return the smallest box around all marked cells, None if there is none (Eq. 7)."""
    rows, columns = np.nonzero(mask_HW)
    if len(rows) == 0:
        return None
    return (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)


def expand_box(box: Box, grid: tuple[int, int], margin_cells: float) -> FloatBox:
    """Add a margin on every side and cut the box at the edge of the grid."""
    x0, y0, x1, y1 = box
    height, width = grid
    return (
        max(0.0, x0 - margin_cells),
        max(0.0, y0 - margin_cells),
        min(float(width), x1 + margin_cells),
        min(float(height), y1 + margin_cells),
    )


def cells_to_pixels(
    box: FloatBox,
    grid: tuple[int, int],
    size_px: tuple[int, int],
    *,
    cell_px: int,
    min_side_px: int,
) -> Box:
    """Map a box on the coarse grid to the source picture (pictures that keep their shape).

    Args:
        box: In cells of the coarse grid.
        grid: (H, W).
        size_px: (width, height) of the source picture.
        cell_px: Side of a cell of the resized picture: 28 (Qwen2.5-VL) or 32 (Qwen3-VL).
        min_side_px: Shorter sides grow about their centre, then slide into the picture.

    Returns:
        box_px: Inside the source picture.
    """
    height, width = grid
    edges = np.asarray(box, np.float32) * np.float32(cell_px)
    ratio_x = np.float32(size_px[0] / (cell_px * width))
    ratio_y = np.float32(size_px[1] / (cell_px * height))
    scaled = edges * np.array([ratio_x, ratio_y, ratio_x, ratio_y], np.float32)
    x0, x1 = _fit_side(scaled[0], scaled[2], size_px[0], min_side_px)
    y0, y1 = _fit_side(scaled[1], scaled[3], size_px[1], min_side_px)
    return (x0, y0, x1, y1)


def padded_cells_to_pixels(
    box: FloatBox, size_px: tuple[int, int], *, side_px: int, cell_px: int, min_side_px: int
) -> Box:
    """Map a box to the source picture where the model saw it padded to a square (LLaVA).

    Args:
        box: In cells of the square.
        size_px: (width, height) of the source picture.
        side_px: Side of the square that the vision tower sees.
        cell_px: Side of a cell.
        min_side_px: As in `cells_to_pixels`; 0 leaves the box as it is, which may then be
            empty where it lies in the padding.

    Returns:
        box_px: Inside the source picture.
    """
    width, height = size_px
    ratio = min(side_px / width, side_px / height)
    pad_x, pad_y = (side_px - int(width * ratio)) / 2, (side_px - int(height * ratio)) / 2
    pads = np.array([pad_x, pad_y, pad_x, pad_y], np.float32)
    edges = (np.asarray(box, np.float32) * np.float32(cell_px) - pads) / np.float32(ratio)
    edges = np.clip(edges, 0, np.array([width, height, width, height], np.float32))
    x0, x1 = _fit_side(edges[0], edges[2], width, min_side_px)
    y0, y1 = _fit_side(edges[1], edges[3], height, min_side_px)
    return (x0, y0, x1, y1)


def _fit_side(low: np.float32, high: np.float32, limit: int, min_side: int) -> tuple[int, int]:
    """Grow a side to its minimum about its centre, slide it into [0, limit] and truncate.

    Both slides are for every side, not only for grown ones: an edge that rounding put a hair
    outside moves the other edge too, perhaps across a whole pixel.
    """
    zero, end = np.float32(0), np.float32(limit)
    grown = max(np.float32(min_side) - (high - low), zero) / np.float32(2)
    low, high = low - grown, high + grown
    before = -min(low, zero)
    low, high = low + before, high + before
    beyond = max(high - end, zero)
    low, high = low - beyond, high - beyond
    return int(min(max(low, zero), end)), int(min(max(high, zero), end))
