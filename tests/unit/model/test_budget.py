"""The predicted number of visual tokens is the real one."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from qzoom.contracts.budget import (
    FETCH_MAX_TOKENS,
    ImageRules,
    coarse_grid,
    fetch_size,
    fit_size,
)
from qzoom.errors import InvalidRequest
from qzoom.model.images import open_preprocessor
from qzoom.model.loading import open_checkpoint

sides = st.integers(1, 5000)


@settings(max_examples=500)
@given(sides, sides, st.sampled_from([28, 32]), st.integers(1, 600), st.integers(0, 4000))
def test_second_resize_is_that_of_transformers(width, height, cell, low, more):
    limits = (low * cell**2, (low + more) * cell**2)
    try:
        expected = smart_resize(height, width, cell, *limits)
    except ValueError:
        with pytest.raises(InvalidRequest, match="at most 200 times"):
            fit_size((width, height), cell, limits)
    else:
        assert fit_size((width, height), cell, limits) == expected[::-1]


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((900, 640), (896, 644)),
        ((500, 380), (504, 392)),
        # 42 / 28 = 1.5 and 70 / 28 = 2.5: halves round to even numbers.
        ((42 + 280, 70 + 280), (336, 336)),
        ((70, 70), (56, 56)),
        ((1, 1), (56, 56)),
        ((10, 600), (28, 588)),
    ],
)
def test_first_resize(size, resized):
    assert fetch_size(size) == resized


def test_first_resize_is_bounded():
    width, height = fetch_size((9000, 9000))
    assert width * height <= FETCH_MAX_TOKENS * 28**2
    assert width > 3500


@pytest.mark.parametrize("layout", ["own", "released"])
@pytest.mark.parametrize("budget", [None, 24, 300])
@pytest.mark.parametrize("size", [(640, 480), (33, 900), (1, 1), (29, 31), (200, 1), (1000, 1000)])
def test_prediction_equals_preprocessing(random_folder, family, layout, budget, size):
    folder, _ = random_folder(family, layout)
    preprocessor = open_preprocessor(open_checkpoint(folder))
    if family == "llava" and budget is not None:
        with pytest.raises(InvalidRequest, match=f"max_visual_tokens is {budget}, at least 576"):
            coarse_grid(size, preprocessor.rules, budget)
        return
    picture = np.zeros((size[1], size[0], 3), np.uint8)

    patches = preprocessor.coarse(picture, budget)
    assert coarse_grid(size, preprocessor.rules, budget) == patches.grid
    if family != "llava":
        assert len(patches.pixel_values) == 4 * patches.grid[0] * patches.grid[1]


@pytest.mark.parametrize(
    ("size", "message"),
    [((1, 4000), "1x4000 px, its longer side"), ((0, 10), "0x10 px, both sides")],
)
def test_impossible_pictures_are_refused(size, message):
    rules = ImageRules(28, None, fetch_resize=True, min_tokens=4, max_tokens=64)
    with pytest.raises(InvalidRequest, match=message):
        coarse_grid(size, rules)


def test_padding_to_a_square_is_bounded():
    rules = ImageRules(14, (24, 24), fetch_resize=False, min_tokens=576, max_tokens=576)
    assert coarse_grid((1, 10_000), rules) == (24, 24)
    with pytest.raises(InvalidRequest, match="at most 10000 px"):
        coarse_grid((1, 10_001), rules)


def test_budget_must_be_positive():
    rules = ImageRules(28, None, fetch_resize=False, min_tokens=4, max_tokens=64)
    with pytest.raises(InvalidRequest, match="budget is 0 visual tokens"):
        coarse_grid((10, 10), rules, 0)


def test_prediction_needs_no_torch():
    code = "import sys, qzoom.contracts.budget; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
