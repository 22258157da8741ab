"""Every position of one small sequence by hand, for both presets; then properties."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qzoom.contracts.stages import ImageSpan, Prompt, Proposal
from qzoom.model.config import QZoomConfig
from qzoom.model.positions import coarse_positions, next_position, zoom_tail

START, END, PAD = 3, 4, 5
PAPER = QZoomConfig.preset("paper", "qwen2_5_vl", split_layer=2)
RELEASED = QZoomConfig.preset("released", "qwen2_5_vl", split_layer=2)
INTERPOLATED = dataclasses.replace(RELEASED, roi_positions="interpolated")


def make_prompt(*grids, mrope=True):
    """Two words, then each picture between its delimiters, then two words."""
    ids, spans = [20, 21], []
    for image, (height, width) in enumerate(grids):
        ids.append(START)
        spans.append(ImageSpan(image, len(ids), (height, width), (100, 100)))
        ids += [PAD] * (height * width) + [END]
    ids += [22, 23]
    positions = coarse_positions(len(ids), spans, mrope=mrope)
    return Prompt(np.array(ids, np.int32), positions, tuple(spans))


def proposal(*box, image=0):
    return Proposal(image, box, (0, 0, 1, 1), 0.9)


def by_hand(*tokens):
    return [list(axis) for axis in zip(*tokens, strict=True)]


def text(position):
    return (position, position, position)


def test_coarse_positions_by_hand():
    # One picture of 2 x 3 cells: s = 3, e = s + max(2, 3) = 6.
    assert make_prompt((2, 3)).positions.tolist() == by_hand(
        text(0), text(1), text(2),
        (3, 3, 3), (3, 3, 4), (3, 3, 5),
        (3, 4, 3), (3, 4, 4), (3, 4, 5),
        text(6), text(7), text(8),
    )  # fmt: skip


def test_zoomed_positions_of_the_paper_by_hand():
    # delta = min(2, 3) = 2; rows from 3 + 0 to 3 + 2, columns from 3 + 1 to 3 + 3.
    tail = zoom_tail(make_prompt((2, 3)), proposal(1, 0, 3, 2), (3, 2), PAPER, mrope=True)
    assert tail.kept == 9
    assert tail.ids.tolist() == [END, START, *[PAD] * 6, END, 22, 23]
    assert tail.visual == ((2, 6),)
    assert tail.positions.tolist() == by_hand(
        text(7), text(8),
        (5, 3, 4), (5, 3, 6),
        (5, 4, 4), (5, 4, 6),
        (5, 5, 4), (5, 5, 6),
        text(9), text(10), text(11),
    )  # fmt: skip
    assert next_position(tail.positions) == 12


def test_interpolated_positions_of_the_released_code_by_hand():
    # t = 3 + max(2, 3) + 2 = 8; rows from 3 + 0 to 3 + 1, columns from 3 + 1 to 3 + 2.
    tail = zoom_tail(make_prompt((2, 3)), proposal(1, 0, 3, 2), (3, 2), INTERPOLATED, mrope=True)
    assert tail.positions.tolist() == by_hand(
        text(6), text(7),
        (8, 3, 4), (8, 3, 5),
        (8, 3.5, 4), (8, 3.5, 5),
        (8, 4, 4), (8, 4, 5),
        text(11), text(12), text(13),
    )  # fmt: skip


def test_sequential_positions_of_the_released_code_by_hand():
    tail = zoom_tail(make_prompt((2, 3)), proposal(1, 0, 3, 2), (3, 2), RELEASED, mrope=True)
    assert tail.positions.tolist() == by_hand(
        text(6), text(7),
        (8, 8, 8), (8, 8, 9),
        (8, 9, 8), (8, 9, 9),
        (8, 10, 8), (8, 10, 9),
        text(11), text(12), text(13),
    )  # fmt: skip


def test_positions_of_the_published_example():
    # Of the published code's own run: s = 14, 15 x 21 cells, box (0, 10, 21, 15).
    span = ImageSpan(0, 14, (15, 21), (900, 640))
    ids = np.full(14 + 315 + 3, PAD, np.int32)
    prompt = Prompt(ids, coarse_positions(len(ids), [span], mrope=True), (span,))
    tail = zoom_tail(prompt, proposal(0, 10, 21, 15), (8, 32), INTERPOLATED, mrope=True)
    assert tail.positions[0, :3].tolist() == [35, 36, 37]
    rows, columns = tail.positions[1, 2:-3].reshape(8, 32), tail.positions[2, 2:-3].reshape(8, 32)
    assert (rows[0, 0], rows[-1, 0], columns[0, 0], columns[0, -1]) == (24, 28, 14, 34)
    assert columns[0, 1] == pytest.approx(14.645161)
    assert tail.positions[:, -3:].tolist() == by_hand(text(69), text(70), text(71))


def test_a_single_row_stands_at_the_start_of_its_box():
    tail = zoom_tail(make_prompt((2, 3)), proposal(1, 1, 3, 2), (1, 2), PAPER, mrope=True)
    assert tail.positions[1, 2:4].tolist() == [4, 4]


def test_a_margin_widens_the_interpolated_box_within_the_grid():
    config = dataclasses.replace(PAPER, roi_margin_cells=0.5)
    tail = zoom_tail(make_prompt((2, 3)), proposal(1, 0, 2, 1), (2, 2), config, mrope=True)
    assert tail.positions[1, 2:6].tolist() == [3, 3, 4.5, 4.5]
    assert tail.positions[2, 2:6].tolist() == [3.5, 5.5, 3.5, 5.5]


@pytest.mark.parametrize("config", [PAPER, INTERPOLATED, RELEASED])
def test_a_later_picture_moves_like_text(config):
    prompt = make_prompt((2, 3), (2, 2))
    tail = zoom_tail(prompt, proposal(0, 0, 1, 1), (2, 2), config, mrope=True)
    old = prompt.positions[:, tail.kept + 1 :]
    new = tail.positions[:, 2 + 4 + 1 :]
    assert new.shape == old.shape
    assert np.unique(new - old).tolist() == [3 if config is PAPER else 4]
    assert tail.visual == ((2, 4), (2 + 4 + 1 + 1, 4))
    start, count = tail.visual[1]
    assert (tail.ids[start : start + count] == PAD).all()


def test_the_second_picture_can_be_chosen():
    prompt = make_prompt((2, 3), (2, 2))
    tail = zoom_tail(prompt, proposal(0, 0, 2, 2, image=1), (2, 2), PAPER, mrope=True)
    second = prompt.spans[1]
    assert tail.kept == second.start + 4
    s = prompt.positions[0, second.start]
    assert tail.positions[:, 2].tolist() == [s + 2, s, s]


def test_llava_counts_through_and_has_no_delimiters():
    config = QZoomConfig.preset("released", "llava", split_layer=2)
    prompt = make_prompt((2, 3), mrope=False)
    chosen = Proposal(0, (0, 0, 1, 1), (0, 0, 1, 1), 0.9, kept=(1, 4))
    tail = zoom_tail(prompt, chosen, (2, 3), config, mrope=False)
    assert prompt.positions[0].tolist() == list(range(12))
    assert tail.ids.tolist() == [PAD, PAD, END, 22, 23]
    assert tail.positions.tolist() == [[9, 10, 11, 12, 13]] * 3
    assert tail.visual == ((0, 2),)


def test_a_picture_that_the_prompt_lacks_is_refused():
    with pytest.raises(ValueError, match="picture 1"):
        zoom_tail(make_prompt((2, 3)), proposal(0, 0, 1, 1, image=1), (1, 1), PAPER, mrope=True)


GRIDS = st.tuples(st.integers(1, 6), st.integers(1, 6))


@settings(max_examples=200)
@given(grids=st.lists(GRIDS, min_size=1, max_size=3), roi=GRIDS, data=st.data())
def test_no_two_tokens_of_the_paper_s_layout_share_a_position(grids, roi, data):
    prompt = make_prompt(*grids)
    image = data.draw(st.integers(0, len(grids) - 1))
    height, width = grids[image]
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = (x0, y0, data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height)))
    tail = zoom_tail(prompt, proposal(*box, image=image), roi, PAPER, mrope=True)
    whole = np.concatenate([prompt.positions[:, : tail.kept], tail.positions], axis=1)
    assert len(np.unique(whole, axis=1).T) == whole.shape[1]
    assert next_position(whole) == whole.max() + 1
