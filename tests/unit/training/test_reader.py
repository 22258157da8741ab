import numpy as np
import pytest
import torch

from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.model.decoder import ResumeInput, Roi
from qzoom.model.loading import open_checkpoint
from qzoom.model.pipeline import Pipeline
from qzoom.model.prefill import PrefillGate, PrefillInput
from tests.unit.training.conftest import FAMILIES
from training.labels.crops import finder, propose
from training.labels.shards import group_pictures
from training.reading.prompts import Piece
from training.reading.reader import Reader


@pytest.fixture(scope="module", params=FAMILIES)
def reader(request, checkpoints):
    return Reader.load(open_checkpoint(checkpoints[request.param]))


def test_answers_are_the_served_ones(reader, records):
    pipeline = Pipeline.open(reader.checkpoint.path)
    for group in group_pictures(records):
        pixels = group[0].picture.load()
        picture = reader.open(pixels, group)
        tails = reader.tails(picture, [(i, None) for i in range(len(group))])
        readings = reader.answer(picture, tails, max_new_tokens=6)
        for record, reading in zip(group, readings, strict=True):
            served = pipeline.answer(
                record.conversation(), [pixels], Options(route="direct"), Sampling(max_tokens=6)
            )
            assert reading.ids == served.ids


def test_attention_rows_are_those_of_the_whole_sequence(reader, records):
    """Decoding step by step, and feeding the answer back in one pass, look at the same cells."""
    group = group_pictures(records)[0]
    picture = reader.open(group[0].picture.load(), group)
    tails = reader.tails(picture, [(i, None) for i in range(len(group))])
    heads = {1: [], 4: [0, 3]}
    stepped = reader.answer(picture, tails, max_new_tokens=5, heads=heads)
    followed = reader.follow(picture, tails, [r.ids for r in stepped], heads)
    for a, b in zip(stepped, followed, strict=True):
        assert a.attention.keys() == b.attention.keys() == {1, 4}
        assert len(a.attention[4]) == 2
        for layer in heads:
            np.testing.assert_allclose(a.attention[layer], b.attention[layer], atol=1e-5)
            assert (a.attention[layer].sum(axis=-1) <= 1 + 1e-5).all()
            assert a.attention[layer].min() >= 0


def test_predicting_rows_start_at_the_end_of_the_prompt(reader, records):
    """As if the prompt's last token were the answer's first, fed back, and its last the end."""
    group = group_pictures(records)[0]
    picture = reader.open(group[0].picture.load(), group)
    tails = reader.tails(picture, [(i, None) for i in range(len(group))])
    heads = {1: [], 4: [0, 3]}
    stepped = reader.answer(picture, tails, max_new_tokens=5, heads=heads, rows="predicting")
    ends = reader.checkpoint.eos_ids
    whole = [r.ids if r.ids[-1] in ends else (*r.ids, ends[0]) for r in stepped]
    followed = reader.follow(picture, tails, whole, heads, "predicting")
    shorter = [Piece(tail.ids[:-1], tail.positions[:, :-1]) for tail in tails]
    moved = [(int(t.ids[-1]), *ids[:-1]) for t, ids in zip(tails, whole, strict=True)]
    expected = reader.follow(picture, shorter, moved, heads)
    fed_back = reader.follow(picture, tails, whole, heads)
    for layer in heads:
        for question in range(len(group)):
            rows = expected[question].attention[layer]
            for found in (stepped, followed):
                np.testing.assert_allclose(found[question].attention[layer], rows, atol=1e-5)
            assert not np.allclose(fed_back[question].attention[layer], rows, atol=1e-5)


def test_an_answer_of_its_end_alone_has_no_rows(reader, records):
    group = group_pictures(records)[0][:1]
    picture = reader.open(group[0].picture.load(), group)
    tails = reader.tails(picture, [(0, None)])
    end = reader.checkpoint.eos_ids[:1]
    one_token = [(*reader.answer(picture, tails, max_new_tokens=1)[0].ids, *end)]
    for rows in ("fed_back", "predicting"):
        assert reader.follow(picture, tails, [tuple(end)], {1: []}, rows)[0].attention == {}
        assert reader.follow(picture, tails, one_token, {1: []}, rows)[0].attention != {}


def test_attention_equals_a_plain_softmax(reader, records):
    """Against one question alone, with nothing shared and nothing packed."""
    group = group_pictures(records)[0]
    pixels = group[0].picture.load()
    together = reader.open(pixels, group)
    readings = reader.answer(
        together,
        reader.tails(together, [(i, None) for i in range(len(group))]),
        max_new_tokens=5,
        heads={2: []},
    )
    for number, record in enumerate(group):
        alone = reader.open(pixels, [record])
        tails = reader.tails(alone, [(0, None)])
        [reading] = reader.answer(alone, tails, max_new_tokens=5, heads={2: []})
        assert reading.ids == readings[number].ids
        np.testing.assert_allclose(reading.attention[2], readings[number].attention[2], atol=1e-5)


def test_scores_say_what_greedy_decoding_gives(reader, records):
    group = group_pictures(records)[0]
    picture = reader.open(group[0].picture.load(), group)
    crop = propose(finder(reader.checkpoint), picture.prompts[0].spans[0], (0, 0, 2, 2))
    assert crop is not None
    tails = reader.tails(picture, [(0, None), (0, crop), (1, crop)])
    answers = [r.ids for r in reader.answer(picture, tails, max_new_tokens=4)]
    scores = reader.score(picture, tails, answers)
    assert [hit for _, hit in scores] == [True] * 3
    assert all(value < 0 for value, _ in scores)
    wrong = [(*ids[:-1], (ids[-1] + 1) % 50) for ids in answers]
    assert [hit for _, hit in reader.score(picture, tails, wrong)] == [False] * 3


def test_zoomed_answers_are_the_served_ones(checkpoints, records):
    """With a crop, against the decoder that serves."""
    checkpoint = open_checkpoint(checkpoints["qwen3_vl"])
    reader = Reader.load(checkpoint)
    group = group_pictures(records)[2]
    pixels = group[0].picture.load()
    picture = reader.open(pixels, group)
    crop = propose(finder(checkpoint), picture.prompts[0].spans[0], (1, 0, 3, 2))
    [reading] = reader.answer(picture, reader.tails(picture, [(1, crop)]), max_new_tokens=5)
    gate, decoder = PrefillGate.load(checkpoint), reader.decoder
    [visual] = reader.encoder.encode([reader.encoder.prepare_coarse(pixels)])
    [roi] = reader.encoder.encode([reader.encoder.prepare_roi(pixels, crop)])
    [state] = gate.run([PrefillInput(picture.prompts[1], [visual])])
    cache = decoder.new_cache(1, 256)
    slot = cache.alloc()
    logits = decoder.resume(cache, [ResumeInput(slot, state.state, Roi(crop, roi.grid, roi))])
    ids = []
    while len(ids) < len(reading.ids):
        ids.append(int(logits.argmax()))
        logits = decoder.step(cache, [slot], [ids[-1]])
    assert tuple(ids) == reading.ids


def test_nothing_needs_a_gradient(reader):
    assert not any(p.requires_grad for p in reader.decoder.parameters())
    assert not any(p.requires_grad for p in reader.encoder.parameters())
    assert torch.is_grad_enabled()
