"""Which region does a smoothed map propose? The checkpoint's rules, from map to source pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qzoom.contracts.budget import MAX_ASPECT_RATIO
from qzoom.contracts.stages import Box, ImageSpan, Proposal
from qzoom.model.components import choose_region, kept_tokens
from qzoom.model.config import Family, QZoomConfig
from qzoom.model.geometry import (
    FloatBox,
    bounding_box,
    cells_to_pixels,
    expand_box,
    padded_cells_to_pixels,
)


class RegionFinder:
    """Threshold, box and crop of one checkpoint (Eq. 6-7).

    Args:
        config: The rules.
        family: Decides how the coarse picture was made.
        hf_config: transformers' config, for the sizes of cells.
    """

    def __init__(self, config: QZoomConfig, family: Family, hf_config: Any) -> None:  # noqa: ANN401
        vision = hf_config.vision_config
        self._config = config
        self._square_px: int | None = None
        self._cell_px = int(vision.patch_size)
        if family == "llava":
            self._square_px = int(vision.image_size)
        else:
            self._cell_px *= int(vision.spatial_merge_size)

    def find(
        self, span: ImageSpan, smoothed: NDArray[np.float32], tau_roi: float
    ) -> Proposal | None:
        """Propose the region above the threshold, None if there is none that can be cropped.

        Args:
            span: The picture.
            smoothed: Its map [H, W].
            tau_roi: Cells strictly above this belong to the region.
        """
        mask = smoothed > np.float32(tau_roi)
        box, keep_all = bounding_box(mask), self._config.token_filter == "all"
        if self._config.region_rule == "components":
            region = choose_region(mask)
            box = region.box if region else None
            keep_all = keep_all or (region is not None and region.is_single)
        if box is None:
            return None
        x0, y0, x1, y1 = box
        wanted = expand_box(box, span.grid, self._config.roi_margin_cells)
        box_px = self._pixels(wanted, span)
        if self._is_refused(box_px):
            return None
        return Proposal(
            image=span.image,
            box_cells=box,
            box_px=box_px,
            score=float(smoothed[y0:y1, x0:x1].max(initial=0.0)),
            kept=None if keep_all else kept_tokens(mask, box),
        )

    def _is_refused(self, box_px: Box) -> bool:
        """Whether the image processor would refuse the crop: empty, thin or too long for its width.

        The published code takes its refusal as finding nothing.
        """
        if self._square_px is not None:
            return False
        sides = box_px[2] - box_px[0], box_px[3] - box_px[1]
        is_long = max(sides) > MAX_ASPECT_RATIO * min(sides)
        return is_long or min(sides) < max(1, self._config.min_crop_px)

    def _pixels(self, box: FloatBox, span: ImageSpan) -> Box:
        min_side_px = self._config.min_side_px
        if self._square_px is None:
            return cells_to_pixels(
                box, span.grid, span.size_px, cell_px=self._cell_px, min_side_px=min_side_px
            )
        return padded_cells_to_pixels(
            box,
            span.size_px,
            side_px=self._square_px,
            cell_px=self._cell_px,
            min_side_px=min_side_px,
        )
