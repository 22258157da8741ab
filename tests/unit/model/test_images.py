"""Crops and pictures of any shape; the bit-exactness itself is checked by test_verify.py."""

import numpy as np
import pytest
from PIL import Image

from qzoom.errors import InvalidRequest
from qzoom.model.images import open_preprocessor
from qzoom.model.loading import open_checkpoint


@pytest.fixture
def preprocessor(random_folder, family):
    folder, _ = random_folder(family, "released")
    return open_preprocessor(open_checkpoint(folder))


def noise(width, height):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (27, 27), (5000, 40), (1, 150)])
def test_extreme_pictures_are_prepared(preprocessor, size):
    patches = preprocessor.coarse(noise(*size))

    assert patches.pixel_values.dtype == np.float32
    assert np.isfinite(patches.pixel_values).all()
    assert min(patches.grid) >= 1


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (10, 10, 38, 38), (0, 5, 90, 6), (99, 0, 100, 100)])
def test_small_crops_are_enlarged(preprocessor, box):
    patches = preprocessor.roi(noise(100, 100), box)

    assert patches.grid[0] * patches.grid[1] >= 256


def test_crop_has_the_pixels_of_the_source(preprocessor):
    picture = noise(300, 200)
    picture[50:100, 40:140] = 255

    inside = preprocessor.roi(picture, (40, 50, 140, 100)).pixel_values
    assert inside.max() - inside.min() < 1.2  # channels are normalised apart
    across = preprocessor.roi(picture, (39, 50, 140, 100)).pixel_values
    assert across.max() - across.min() > 1.5


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_budget_bounds_the_crop(preprocessor):
    grid = preprocessor.roi(noise(800, 600), (0, 0, 800, 600), 100).grid
    assert 64 < grid[0] * grid[1] <= 100


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_too_long_pictures_are_refused(preprocessor):
    with pytest.raises(InvalidRequest, match="300x1 px, its longer side may be at most 200 times"):
        preprocessor.coarse(noise(300, 1))
    with pytest.raises(InvalidRequest, match="300x1 px"):
        preprocessor.roi(noise(300, 300), (0, 0, 300, 1))


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (5, 5, 4, 9), (0, 0, 9, 0)])
@pytest.mark.parametrize("family", ["llava"])
def test_empty_llava_crop_is_black(preprocessor, box):
    black = preprocessor.roi(np.zeros((9, 9, 3), np.uint8), (0, 0, 9, 9)).pixel_values
    assert np.array_equal(preprocessor.roi(noise(9, 9), box).pixel_values, black)


@pytest.mark.parametrize("layout", ["own", "released"])
def test_llava_crop_keeps_or_loses_its_shape(random_folder, layout):
    folder, _ = random_folder("llava", layout)
    preprocessor = open_preprocessor(open_checkpoint(folder))
    patches = preprocessor.roi(np.full((100, 100, 3), 255, np.uint8), (0, 0, 100, 50))

    # Preset `paper` pads to a square, `released` stretches: the top row tells.
    is_white = patches.pixel_values[0, 0, 0] > 1.9
    assert is_white == (layout == "released")


def test_wrong_arrays_are_refused(preprocessor):
    with pytest.raises(ValueError, match=r"must be uint8 \[h, w, 3\], got float64 \(4, 4, 3\)"):
        preprocessor.coarse(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"\(4, 4, 4\)"):
        preprocessor.coarse(np.asarray(Image.new("RGBA", (4, 4))))
