"""Boxes on the coarse grid: what the RPN should answer, and what it really will.

All cell boxes are (x1, y1, x2, y2), half open, on the grid of coarse visual tokens.
"""

import math
import random

from qzoom.data.scene import Box
from qzoom.model.geometry import cells_to_pixels
from training.layout import CellBox
from training.pixels import CELL, Grid

MIN_SIDE_PX = 28
"""Shortest side of a crop in source pixels (default of QZoomConfig)."""

_ELSEWHERE, _TIGHT, _LARGE = 0.06, 0.35, 0.6
"""Cumulative shares of boxes that are somewhere else, up to one and up to two cells too large on
each side; the rest is exact. A box that the self-distilled RPN gives takes a quarter of the
picture, twice what the evidence needs."""

EVIDENCE_PAD = 0.1
"""Margin around the evidence in cells: a box that cuts the code is worse than one that is large."""


def evidence_cells(
    box: Box, size: tuple[int, int], grid: Grid, pad: float = EVIDENCE_PAD
) -> CellBox:
    """Cells that the evidence touches, at least two.

    One lone cell would vanish under the smoothing of the heat map (its peak is 0.2), so the box
    grows towards the neighbour that the evidence lies nearest to.

    Args:
        box: Evidence in source pixels.
        size: (width, height) of the source.
        grid: (rows, columns) of the coarse picture.
        pad: Margin in cells.
    """
    rows, cols = grid
    x0, x1 = box[0] / size[0] * cols, box[2] / size[0] * cols
    y0, y1 = box[1] / size[1] * rows, box[3] / size[1] * rows
    left, right = max(0, math.floor(x0 - pad)), min(cols, math.ceil(x1 + pad))
    top, bottom = max(0, math.floor(y0 - pad)), min(rows, math.ceil(y1 + pad))
    if (right - left) * (bottom - top) == 1:
        if (y0 + y1) / 2 - top > 0.5 and bottom < rows:
            bottom += 1
        elif top > 0:
            top -= 1
        else:
            bottom += 1
    return left, top, right, bottom


def proposed_cells(rng: random.Random, truth: CellBox, grid: Grid) -> CellBox:
    """A box as a trained RPN gives it: mostly right, often too large, seldom elsewhere."""
    rows, cols = grid
    kind = rng.random()
    if kind < _ELSEWHERE:
        return random_cells(rng, grid)
    margin = 1 if kind < _TIGHT else 2 if kind < _LARGE else 0
    left, top, right, bottom = truth
    return (
        max(0, left - rng.randint(0, margin)),
        max(0, top - rng.randint(0, margin)),
        min(cols, right + rng.randint(0, margin)),
        min(rows, bottom + rng.randint(0, margin)),
    )


def random_cells(rng: random.Random, grid: Grid) -> CellBox:
    """A box of 1-3 cells a side anywhere."""
    rows, cols = grid
    width, height = min(cols, rng.randint(1, 3)), min(rows, rng.randint(1, 3))
    left, top = rng.randint(0, cols - width), rng.randint(0, rows - height)
    return left, top, left + width, top + height


def to_pixels(cells: CellBox, size: tuple[int, int], grid: Grid) -> tuple[int, int, int, int]:
    """Crop in source pixels, by the rule that serving uses (Q-Zoom, Eq. (7))."""
    return cells_to_pixels(cells, grid, size, cell_px=CELL, min_side_px=MIN_SIDE_PX)


def contains(outer: tuple[int, int, int, int], inner: Box) -> bool:
    """Does a crop hold the whole box?"""
    return (
        outer[0] <= inner[0]
        and outer[1] <= inner[1]
        and outer[2] >= inner[2]
        and outer[3] >= inner[3]
    )
