"""What would be cropped, if a map said where to look? Used to try maps out without an RPN."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qzoom.contracts.stages import Box, ImageSpan, Proposal
from qzoom.model.loading import Checkpoint
from qzoom.model.regions import RegionFinder

FloatBox = tuple[float, float, float, float]


def finder(checkpoint: Checkpoint) -> RegionFinder:
    """The checkpoint's way from cells to source pixels, with the paper's minimal box (Eq. 7)."""
    config = replace(checkpoint.qzoom, region_rule="bounding_box", token_filter="all")
    return RegionFinder(config, checkpoint.family, checkpoint.hf_config)


def propose(regions: RegionFinder, span: ImageSpan, box: Box) -> Proposal | None:
    """The crop of a box of coarse cells; None where it cannot be cropped."""
    mask = np.zeros(span.grid, np.float32)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    return regions.find(span, mask, 0.5)


def centre_inside(evidence_px: Sequence[float], box_px: Box) -> bool:
    """Whether the middle of the evidence lies in the crop."""
    x, y = (evidence_px[0] + evidence_px[2]) / 2, (evidence_px[1] + evidence_px[3]) / 2
    return box_px[0] <= x < box_px[2] and box_px[1] <= y < box_px[3]


def area_share(box_px: Box, size_px: tuple[int, int]) -> float:
    """Part of the picture that the crop covers, in [0, 1]."""
    return (box_px[2] - box_px[0]) * (box_px[3] - box_px[1]) / (size_px[0] * size_px[1])
