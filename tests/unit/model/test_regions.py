"""Crops that no image processor takes are no proposals."""

import numpy as np
import pytest

from qzoom.contracts.stages import ImageSpan
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
