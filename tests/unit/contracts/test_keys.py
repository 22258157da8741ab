"""Two computations that could differ have different keys, whatever differs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qzoom.contracts.keys import block_keys, crop_key, fingerprint, next_key, picture_key
from qzoom.contracts.stages import ImageSpan, Prompt, Proposal

MODEL = fingerprint("0123456789abcdef", "paper", "float32")
SPANS = (ImageSpan(0, 3, (2, 2), (56, 56)), ImageSpan(1, 9, (1, 2), (56, 28)))
NUM_TOKENS = 14
PICTURES = (b"first picture", b"second picture")
BOX = Proposal(0, (0, 0, 2, 2), (0, 0, 28, 28), 0.9)


@st.composite
def prompts(draw):
    ids = draw(st.lists(st.integers(0, 2**31 - 1), min_size=NUM_TOKENS, max_size=NUM_TOKENS))
    positions = np.tile(np.arange(NUM_TOKENS, dtype=np.float32), (3, 1))
    return Prompt(np.array(ids, np.int32), positions, SPANS)


@given(prompts(), st.integers(0, NUM_TOKENS - 1), st.integers(1, 1000))
def test_one_other_token_changes_every_key_behind_it_and_none_before(prompt, at, change):
    ids = prompt.ids.copy()
    ids[at] ^= change
    one = block_keys(MODEL, "tenant", prompt, PICTURES)
    other = block_keys(MODEL, "tenant", replace(prompt, ids=ids), PICTURES)
    for key, changed, end in zip(one, other, prompt.block_ends, strict=True):
        assert (key != changed) == (at < end)


@given(prompts(), st.integers(0, 2), st.integers(0, NUM_TOKENS - 1))
def test_one_other_position_changes_every_key_behind_it(prompt, axis, at):
    positions = prompt.positions.copy()
    positions[axis, at] += 1
    one = block_keys(MODEL, "tenant", prompt, PICTURES)
    other = block_keys(MODEL, "tenant", replace(prompt, positions=positions), PICTURES)
    for key, changed, end in zip(one, other, prompt.block_ends, strict=True):
        assert (key != changed) == (at < end)


@given(prompts(), st.text(), st.text())
def test_tenants_share_no_key(prompt, one, other):
    same = one == other
    blocks = [block_keys(MODEL, tenant, prompt, PICTURES) for tenant in (one, other)]
    assert (blocks[0] == blocks[1]) == same
    assert (picture_key(MODEL, one, "d", 9) == picture_key(MODEL, other, "d", 9)) == same
    assert (crop_key(MODEL, one, "d", BOX, 9) == crop_key(MODEL, other, "d", BOX, 9)) == same


@given(prompts(), st.binary(max_size=40), st.binary(max_size=40))
def test_another_picture_is_another_prefix(prompt, one, other):
    first = block_keys(MODEL, "t", prompt, (one, b"same"))
    second = block_keys(MODEL, "t", prompt, (other, b"same"))
    assert all((a == b) == (one == other) for a, b in zip(first, second, strict=True))


@given(prompts())
def test_a_longer_conversation_begins_with_the_keys_of_the_shorter(prompt):
    shorter = Prompt(prompt.ids[:8], prompt.positions[:, :8], SPANS[:1])
    longer = block_keys(MODEL, "t", prompt, PICTURES)
    assert block_keys(MODEL, "t", shorter, PICTURES[:1]) == longer[:1]


def test_the_grid_and_the_model_count():
    prompt = Prompt(np.zeros(14, np.int32), np.zeros((3, 14), np.float32), SPANS)
    wide = replace(prompt, spans=(replace(SPANS[0], grid=(1, 4)), SPANS[1]))
    keys = {
        block_keys(MODEL, "t", prompt, PICTURES),
        block_keys(MODEL, "t", wide, PICTURES),
        block_keys(fingerprint("0123456789abcdef", "paper", "bfloat16"), "t", prompt, PICTURES),
    }
    assert len(keys) == 3


@pytest.mark.parametrize(("digest", "budget"), [("e", 64), ("d", 65), ("d", None)])
def test_pixels_and_budget_count(digest, budget):
    assert picture_key(MODEL, "t", "d", 64) != picture_key(MODEL, "t", digest, budget)
    assert crop_key(MODEL, "t", "d", BOX, 64) != crop_key(MODEL, "t", digest, BOX, budget)


def test_only_the_box_and_the_kept_tokens_of_a_proposal_count():
    same = replace(BOX, score=0.1, box_cells=(0, 0, 1, 1), image=3)
    assert crop_key(MODEL, "t", "d", BOX, 64) == crop_key(MODEL, "t", "d", same, 64)
    for other in (replace(BOX, box_px=(0, 0, 28, 29)), replace(BOX, kept=(0, 1))):
        assert crop_key(MODEL, "t", "d", BOX, 64) != crop_key(MODEL, "t", "d", other, 64)


def test_parts_cannot_be_moved_between_fields():
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    places = np.zeros((3, 1), np.float32)
    one, two = np.array([1], np.int32), np.array([2], np.int32)
    assert next_key(b"k", one, places) != next_key(b"k", two, places)
    assert next_key(b"k", one, places, b"p") != next_key(b"kp", one, places)
