"""Where is the evidence on LLaVA-1.5? The published rule over connected components.

Replaces the single bounding box where `QZoomConfig.region_rule` is `components`
(reference: SD-RPN's evaluation in "mask" mode, on a square map).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from qzoom.contracts.stages import Box
from qzoom.model.geometry import bounding_box

_MAX_COMPONENT_CELLS = 225
_GROW_UP_TO_CELLS = 3
_GROWN_SIDE = 3


@dataclass(frozen=True, slots=True)
class Region:
    """The chosen box and which of the crop's tokens it keeps.

    Attributes:
        box: In cells; may be empty on one axis where a small component lies at the far edge.
        is_single: Whether exactly one component counted, in which case every token is kept.
    """

    box: Box
    is_single: bool


def component_boxes(mask_HW: NDArray[np.bool_]) -> list[Box]:
    """Box the 8-connected components that count, in raster order of their first cell.

    Single cells and components above 225 cells are dropped; two or three cells grow to a side
    of about three. The published rule clamps the exclusive end to the last cell's index, so a
    grown box never holds the last row or column; this is reproduced.

    Args:
        mask_HW: Marked cells.
    """
    height, width = mask_HW.shape
    boxes: list[Box] = []
    for cells in _components(mask_HW):
        rows, columns = cells[:, 0], cells[:, 1]
        y0, y1 = int(rows.min()), int(rows.max()) + 1
        x0, x1 = int(columns.min()), int(columns.max()) + 1
        if len(cells) == 1 or len(cells) > _MAX_COMPONENT_CELLS:
            continue
        if len(cells) <= _GROW_UP_TO_CELLS:
            x0, x1 = _grow(x0, x1, width - 1)
            y0, y1 = _grow(y0, y1, height - 1)
        boxes.append((x0, y0, x1, y1))
    return boxes


def choose_region(mask_HW: NDArray[np.bool_]) -> Region | None:
    """One component: its box. Several: the smallest box around the whole mask. None: no RoI."""
    boxes = component_boxes(mask_HW)
    if len(boxes) == 1:
        return Region(boxes[0], is_single=True)
    whole = bounding_box(mask_HW) if boxes else None
    return Region(whole, is_single=False) if whole else None


def kept_tokens(mask_HW: NDArray[np.bool_], box: Box) -> tuple[int, ...]:
    """Choose the crop's tokens that lie on the mask.

    The mask inside the box is stretched over the crop's grid, as the crop's pixels are; ties at
    one half depend on float32 rounding, hence the same interpolation as the published code.

    Args:
        mask_HW: Marked cells of the coarse grid, which the crop's grid equals.
        box: In cells.

    Returns:
        kept: Row-major indices of the crop's tokens.
    """
    x0, y0, x1, y1 = box
    inside = torch.from_numpy(mask_HW[y0:y1, x0:x1].astype(np.float32))[None, None]
    stretched = functional.interpolate(
        inside, size=mask_HW.shape, mode="bilinear", align_corners=False
    )
    return tuple(torch.nonzero(stretched.flatten() > 0.5).flatten().tolist())


def _grow(low: int, high: int, limit: int) -> tuple[int, int]:
    centre, side = (low + high) / 2, max(_GROWN_SIDE, high - low + 1)
    return max(0, int(centre - side / 2)), min(limit, int(centre + side / 2))


def _components(mask_HW: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Label by flood fill; each component as [cells, 2] of (row, column)."""
    unseen = {(int(r), int(c)) for r, c in np.argwhere(mask_HW)}
    found: list[NDArray[np.int64]] = []
    for start in sorted(unseen):
        if start not in unseen:
            continue
        unseen.remove(start)
        cells, stack = [], [start]
        while stack:
            row, column = stack.pop()
            cells.append((row, column))
            for near in [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                if near in unseen:
                    unseen.remove(near)
                    stack.append(near)
        found.append(np.array(cells))
    return found
