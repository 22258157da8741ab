"""Crops that no image processor takes are no proposals."""

import numpy as np
import pytest

from qzoom.contracts.stages import ImageSpan
from qzoom.model.config import QZoomConfig
from qzoom.model.images import open_preprocessor
from qzoom.model.loading import open_checkpoint
from qzoom.model.regions import RegionFinder


@pytest.fixture
def checkpoint(random_folder):
    return open_checkpoint(random_folder("qwen2_5_vl")[0])


@pytest.mark.parametrize(("rows", "is_found"), [(2, True), (1, False)])
def test_a_slice_of_a_very_long_picture_may_be_too_long(checkpoint, rows, is_found):
    picture = np.zeros((35, 6500, 3), np.uint8)
    preprocessor = open_preprocessor(checkpoint)
    grid = preprocessor.coarse(picture).grid
    assert grid[0] == 2
    smoothed = np.zeros(grid, np.float32)
    smoothed[:rows] = 1

    finder = RegionFinder(checkpoint.qzoom, checkpoint.family, checkpoint.hf_config)
    proposal = finder.find(ImageSpan(0, 4, grid, (6500, 35)), smoothed, 0.5)
    assert (proposal is not None) == is_found
    if proposal is not None:
        assert preprocessor.roi(picture, proposal.box_px).grid == grid


@pytest.mark.parametrize(
    ("family", "preset", "width", "is_found"),
    [
        ("qwen2_5_vl", "released", 20, False),
        ("qwen2_5_vl", "released", 28, True),
        ("qwen2_5_vl", "paper", 20, True),
        ("qwen3_vl", "released", 20, True),
    ],
)
def test_a_crop_thinner_than_a_cell_is_no_proposal_for_the_older_processor(
    checkpoint, family, preset, width, is_found
):
    config = QZoomConfig.preset(preset, family, split_layer=3)
    finder = RegionFinder(config, family, checkpoint.hf_config)
    smoothed = np.zeros((14, 2), np.float32)
    smoothed[3:6] = 1
    proposal = finder.find(ImageSpan(0, 4, (14, 2), (width, 300)), smoothed, 0.5)
    assert (proposal is not None) == is_found
    if is_found:
        assert proposal.box_px[2] - proposal.box_px[0] == width


def test_an_empty_crop_is_no_proposal(checkpoint):
    config = QZoomConfig.preset("released", "qwen3_vl", split_layer=3)
    finder = RegionFinder(config, "qwen3_vl", checkpoint.hf_config)
    sizes = [(w, h) for w in (1, 2, 3) for h in (1, 2, 3)]
    for grid in ((3, 1), (1, 3), (3, 3), (5, 7)):
        smoothed = np.zeros(grid, np.float32)
        smoothed[-1, -1] = 1
        for size in sizes:
            proposal = finder.find(ImageSpan(0, 4, grid, size), smoothed, 0.5)
            if proposal is not None:
                x0, y0, x1, y1 = proposal.box_px
                assert x0 < x1
                assert y0 < y1
