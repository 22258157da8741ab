import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qzoom.model.geometry import (
    bounding_box,
    cells_to_pixels,
    corner_mask,
    expand_box,
    padded_cells_to_pixels,
    smooth,
)

A, B = 0.2740686, 0.4518628


def test_smoothing_spreads_a_cell_over_its_neighbours():
    scores = torch.zeros(5, 5)
    scores[2, 2] = 1.0
    expected = torch.outer(torch.tensor([0, A, B, A, 0]), torch.tensor([0, A, B, A, 0]))
    assert torch.allclose(smooth(scores), expected, atol=1e-7)


def test_smoothing_reflects_without_repeating_the_border():
    scores = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    # The corner sees itself once; its neighbour sees it from both sides after reflection.
    assert smooth(scores)[0, 0] == pytest.approx(B * B, abs=1e-7)
    assert smooth(scores)[0, 1] == pytest.approx(A * B, abs=1e-7)
    border = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert smooth(border)[0, 0] == pytest.approx(2 * A * B, abs=1e-7)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_a_single_row_or_column_is_blurred_along_its_length_only(shape):
    scores = torch.ones(shape)
    assert torch.allclose(smooth(scores), scores)
    scores.view(-1)[0] = 0.0
    assert smooth(scores).view(-1)[0] == pytest.approx(0.0 if shape == (1, 1) else 2 * A, abs=1e-6)


def test_corner_cells_are_dropped_from_large_maps_only():
    assert corner_mask((16, 16)).all()
    keep = corner_mask((16, 17))
    assert not keep[:4, 0].any()
    assert not keep[0, :4].any()
    assert keep.sum() == 16 * 17 - 7
    assert (~corner_mask((1, 300))).sum() == 75


def test_the_box_encloses_all_cells():
    mask = np.zeros((4, 6), np.bool_)
    assert bounding_box(mask) is None
    mask[1, 2] = mask[3, 4] = True
    assert bounding_box(mask) == (2, 1, 5, 4)


def test_float32_rounding_loses_the_last_pixel_as_in_the_published_code():
    box = cells_to_pixels((0, 0, 3, 3), (3, 3), (186, 186), cell_px=28, min_side_px=28)
    assert box == (0, 0, 185, 185)


def test_a_small_box_grows_about_its_centre_and_slides_into_the_picture():
    grid, size = (10, 10), (100, 100)
    assert cells_to_pixels((5, 5, 6, 6), grid, size, cell_px=28, min_side_px=28) == (41, 41, 69, 69)
    assert cells_to_pixels((0, 9, 1, 10), grid, size, cell_px=28, min_side_px=28) == (
        0,
        72,
        28,
        100,
    )


@pytest.mark.parametrize(
    ("box", "grid", "size", "cell_px", "expected"),
    [
        # Growing: (21, 0), where (low + high) / 2 - 14 rounds to 22.
        ((23, 3, 24, 6), (6, 28), (50, 10), 28, (21, 0, 50, 10)),
        ((9, 16, 10, 17), (27, 10), (55, 35), 28, (27, 6, 55, 35)),
        # Not grown, but rounding puts the far edge a hair outside: the near edge moves too.
        ((33, 46, 53, 47), (50, 58), (3909, 149), 28, (2224, 120, 3572, 149)),
        ((2, 19, 4, 25), (25, 4), (3746, 958), 28, (1872, 728, 3746, 958)),
        ((8, 49, 9, 57), (57, 10), (41, 37), 32, (13, 8, 41, 37)),
    ],
)
def test_growing_and_sliding_round_as_in_the_published_code(box, grid, size, cell_px, expected):
    assert cells_to_pixels(box, grid, size, cell_px=cell_px, min_side_px=28) == expected


def test_a_picture_smaller_than_the_minimum_is_taken_whole():
    assert cells_to_pixels((1, 1, 2, 2), (4, 4), (10, 12), cell_px=28, min_side_px=28) == (
        0,
        0,
        10,
        12,
    )


@settings(max_examples=300)
@given(
    grid=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    data=st.data(),
)
def test_every_box_lies_in_the_picture_and_is_as_large_as_asked(grid, size, data):
    height, width = grid
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = (x0, y0, data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height)))
    for min_side_px in (28, 1):
        x0, y0, x1, y1 = cells_to_pixels(box, grid, size, cell_px=32, min_side_px=min_side_px)
        assert 0 <= x0 <= x1 <= size[0]
        assert 0 <= y0 <= y1 <= size[1]
        # Truncation takes at most a pixel, which in the published code may be the only one.
        assert x1 - x0 >= min(min_side_px, size[0]) - 1
        assert y1 - y0 >= min(min_side_px, size[1]) - 1


def test_a_margin_stays_inside_the_grid():
    assert expand_box((0, 2, 3, 4), (4, 4), 0.5) == (0.0, 1.5, 3.5, 4.0)


def test_padding_is_undone_before_the_box_is_mapped():
    # 300 x 100: the picture fills 336 x 112, between rows 112 and 224 of the square.
    whole = padded_cells_to_pixels(
        (0, 0, 24, 24), (300, 100), side_px=336, cell_px=14, min_side_px=0
    )
    assert whole == (0, 0, 300, 100)
    cell = padded_cells_to_pixels((0, 8, 2, 10), (300, 100), side_px=336, cell_px=14, min_side_px=0)
    assert cell == (0, 0, 25, 25)


def test_a_box_in_the_padding_is_empty_unless_a_minimum_is_set():
    box = (0, 0, 2, 2)
    empty = padded_cells_to_pixels(box, (300, 100), side_px=336, cell_px=14, min_side_px=0)
    assert empty == (0, 0, 25, 0)
    assert padded_cells_to_pixels(box, (300, 100), side_px=336, cell_px=14, min_side_px=28) == (
        0,
        0,
        28,
        28,
    )
