"""What helps the base to learn: optimizer, auxiliary head, pointing, and layouts."""

import numpy as np
import pytest
import torch

from qzoom.data.splits import scene_seed
from training.aux import IGNORE, AuxHead, place_labels
from training.batch import collate
from training.layout import Prompts
from training.modes import READABLE_PX, Budgets, make_sample
from training.muon import Muon
from training.pages import page_view, sample_page
from training.pixels import CELL
from training.pointing import Pointers, touched_cells
from training.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    return Prompts(build_tokenizer())


@pytest.mark.parametrize("shape", [(32, 96), (96, 32), (24, 24)])
def test_muon_takes_the_steps_of_torchs_own(shape):
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(shape))
    theirs = torch.nn.Parameter(ours.detach().clone())
    muon = Muon([ours], lr=1e-2, weight_decay=0.1)
    torchs = torch.optim.Muon(
        [theirs], lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )  # iterates in bfloat16, hence the tolerance
    start = ours.detach().clone()
    for _ in range(4):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        muon.step()
        torchs.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.02 * moved


def test_a_matrix_without_gradient_stays():
    still = torch.nn.Parameter(torch.randn(4, 4))
    before = still.detach().clone()
    Muon([still], lr=1.0, weight_decay=0.5).step()
    torch.testing.assert_close(still, before, rtol=0, atol=0)


def test_tokens_near_their_words_cost_least(prompts):
    """The embedding of "red" is what tells a token that shows red."""
    torch.manual_seed(0)
    head = AuxHead(256, prompts.word)
    words = torch.randn(len(build_tokenizer()), 256) / 16
    torch.nn.init.zeros_(head.chars.weight)  # the characters' part is the same for both
    labels = (
        torch.zeros(1, 12, dtype=torch.long),
        torch.zeros(1, 4, dtype=torch.long),
        torch.tensor([1]),
        torch.tensor([1]),
    )
    right = 3 * (words[head.shape_ids[0]] + words[head.colour_ids[0]])[None]
    wrong = 3 * (words[head.shape_ids[1]] + words[head.colour_ids[1]])[None]
    assert head(right, labels, words) < head(wrong, labels, words)


def test_cells_that_boxes_touch():
    assert touched_cells([(10, 10, 30, 12)], (100, 100), (4, 4)) == [0, 1]
    assert touched_cells([(0, 0, 25, 25), (75, 75, 100, 100)], (100, 100), (4, 4)) == [0, 15]
    assert touched_cells([(90, 90, 140, 140)], (100, 100), (4, 4)) == [15]


def test_looking_at_what_is_named_costs_least(prompts):
    sample = make_sample(scene_seed("val", 3), "coarse", prompts, Budgets(), plain=True)
    batch = collate([sample], prompts, 3)
    pointers = Pointers(batch)
    assert len(pointers.rows), "the picture's questions name nothing"
    query = torch.ones(1, 2, batch.ids.shape[1], 4)
    key = torch.zeros(1, 1, batch.ids.shape[1], 4)
    indifferent = pointers.loss(query, key)
    key[0, 0, pointers.columns[0, pointers.named.any(dim=0)]] = 5.0
    assert pointers.loss(query, key) < indifferent


def test_small_print_is_asked_for_only_where_it_can_be_read(prompts):
    """Between coarse and native, the size of the print in the encoded picture decides."""
    asked = {True: 0, False: 0}
    for index in range(40):
        seed = scene_seed("val", index)
        sample = make_sample(seed, "half", prompts, Budgets(), plain=True)
        zoom_out = sample.tree.grid[0] * CELL / sample.scene.height
        small_px = [item.font_px for item in sample.scene.items if item.is_small]
        if small_px:
            readable = max(small_px) * zoom_out >= READABLE_PX
            asked[readable] += sum(q.needs_detail for q in sample.asked.values())
    assert asked[True] > 0
    assert asked[False] == 0


def test_a_page_teaches_many_characters():
    page, scene = page_view(4), sample_page(4)
    printed = sum(len(item.code) for item in scene.items)
    assert printed > 20
    assert (page.aux.chars != 0).sum() == printed
    assert (page.aux.order != 0).sum() == printed, "two codes share a place in one token"
    assert not page.aux.shapes.any()
    again = page_view(4)
    np.testing.assert_array_equal(again.patches, page.patches)


def test_places_are_thirds_of_the_picture():
    expected = [
        [0, 0, 1, 1, 1, 2, 2],
        [3, 3, 4, 4, 4, 5, 5],
        [6, 6, 7, 7, 7, 8, 8],
    ]
    np.testing.assert_array_equal(place_labels((3, 7)).reshape(3, 7), expected)


def test_only_the_source_pictures_tokens_have_a_place(prompts):
    sample = make_sample(scene_seed("val", 3), "zoom", prompts, Budgets(), plain=True)
    batch = collate([sample], prompts, 3)
    known = batch.places[0] != IGNORE
    cells = sample.tree.grid[0] * sample.tree.grid[1]
    assert known.sum() == cells
    assert batch.is_image[0].sum() > cells, "no RoI to tell apart"
    assert known[sample.tree.image_start : sample.tree.image_start + cells].all()
