"""A question that reuses what another one computed about the same pictures has its own answer."""

import dataclasses

import numpy as np
import pytest

from qzoom.contracts.conversation import Text, Turn, single_question
from qzoom.contracts.stages import Proposal
from qzoom.model.decoder import ResumeInput, Roi
from qzoom.model.prefill import PrefillInput
from qzoom.model.rpn import RpnInput

pytestmark = pytest.mark.parity
ATOL = 2e-5  # float32, the order of sums depends on the shape of a pass
NUM_TOKENS = 6


class Walk:
    """The four stages of one question, with what it may reuse of another walk."""

    def __init__(self, pipeline, pictures, conversation, *, past=None, num_blocks=None):
        self.pipeline = pipeline
        encoder, gate, rpn = pipeline.encoder, pipeline.gate, pipeline.rpn
        self.pictures = pictures
        visuals = encoder.encode([encoder.prepare_coarse(p) for p in pictures])
        sizes = [(p.shape[1], p.shape[0]) for p in pictures]
        prompt = gate.tokenize(conversation, [v.grid for v in visuals], sizes)
        num = len(prompt.spans) if num_blocks is None else num_blocks
        known = past.gated.blocks[:num] if past else ()
        new = {span.image for span in prompt.spans[len(known) :]}
        needed = [visual if i in new else None for i, visual in enumerate(visuals)]
        self.gated = gate.run([PrefillInput(prompt, needed, True, known)])[0]
        # Whoever holds a block's branch has no need of its state.
        hidden = dataclasses.replace(
            self.gated.state,
            blocks=(None,) * len(known) + self.gated.state.blocks[len(known) :],
        )
        branch = past.proposed.blocks[:num] if past else ()
        self.proposed = rpn.run([RpnInput(hidden if past else self.gated.state, 1e-6, branch)])[0]
        order = [span.image for span in prompt.spans]
        # A random map may be all sinks; the region does not matter here.
        self.proposal = self.proposed.proposal or Proposal(0, (1, 1, 4, 4), (30, 30, 120, 120), 0.5)
        chosen = order.index(self.proposal.image)
        self.later = tuple(visuals[image] for image in order[chosen + 1 :])
        self.kept = prompt.block_ends[chosen]

    def roi(self):
        encoder, proposal = self.pipeline.encoder, self.proposal
        picture = self.pictures[proposal.image]
        (visual,) = encoder.encode([encoder.prepare_roi(picture, proposal)])
        return Roi(proposal, visual.grid, visual, self.later)

    def answer(self, roi=None, *, past=(), chunk=None):
        """Greedy ids, and the slot's keys and values of all layers."""
        decoder, state = self.pipeline.decoder, self.gated.state
        cache = decoder.new_cache(1, 2048)
        one = decoder.begin(cache, ResumeInput(cache.alloc(), state, roi, past))
        while one.remaining:
            tokens = min(chunk or one.remaining, one.remaining)
            logits = decoder.advance(cache, [(one, tokens)])
        ids = [int(logits.argmax())]
        while len(ids) < NUM_TOKENS:
            ids.append(int(decoder.step(cache, [0], [ids[-1]]).argmax()))
        return ids, cache.kv[:, :, 0]


@pytest.fixture
def walks(picture):
    """Two questions about one picture: alone, and the second with what the first computed."""

    def build(pipeline):
        pictures = [picture(300, 140)]
        question = single_question("Which code is on the small red box to the left?")
        first = Walk(pipeline, pictures, single_question("What is this?"))
        return (
            first,
            Walk(pipeline, pictures, question),
            Walk(pipeline, pictures, question, past=first),
        )

    return build


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_gate_and_rpn_say_the_same(family, preset, pipeline_of, walks):
    _, alone, reusing = walks(pipeline_of(family, preset))
    assert reusing.gated.p_refine == pytest.approx(alone.gated.p_refine, abs=1e-5)
    assert np.allclose(reusing.proposed.heatmap, alone.proposed.heatmap, atol=ATOL)
    assert reusing.proposal.box_cells == alone.proposal.box_cells


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_both_routes_answer_the_same(family, preset, pipeline_of, walks):
    first, alone, reusing = walks(pipeline_of(family, preset))
    end = first.gated.state.prompt.prefix_len
    _, known = first.answer()
    block = known[..., :end, :].clone()
    assert reusing.answer(past=[block])[0] == alone.answer()[0]
    roi = alone.roi()
    expected, zoomed = alone.answer(roi)
    assert reusing.answer(roi, past=[block])[0] == expected
    # The RoI's block too: then its encoding is not needed either.
    num_roi = roi.visual.num_tokens
    bare = dataclasses.replace(roi, visual=None)
    start = 0 if family == "llava" else 2
    crop = zoomed[..., end : end + start + num_roi, :].clone()
    assert reusing.answer(bare, past=[block, crop])[0] == expected


@pytest.mark.parametrize("chunk", [1, 17, 64])
def test_a_prompt_in_chunks_answers_the_same(pipeline, walks, chunk):
    _, alone, _ = walks(pipeline)
    roi = alone.roi()
    assert alone.answer(chunk=chunk)[0] == alone.answer()[0]
    assert alone.answer(roi, chunk=chunk)[0] == alone.answer(roi)[0]


def test_the_next_turn_reuses_the_pictures_of_the_turns_before(pipeline, picture, two_turns):
    pictures = [picture(200, 150), picture(90, 260, seed=1)]
    first = Walk(pipeline, pictures, two_turns)
    longer = (
        *two_turns,
        Turn("assistant", (Text("Nothing."),)),
        Turn("user", (Text("And on the first?"),)),
    )
    alone = Walk(pipeline, pictures, longer)
    for num_blocks in (1, 2):
        reusing = Walk(pipeline, pictures, longer, past=first, num_blocks=num_blocks)
        assert reusing.gated.p_refine == pytest.approx(alone.gated.p_refine, abs=1e-5)
        assert reusing.proposal.box_cells == alone.proposal.box_cells
        assert reusing.answer()[0] == alone.answer()[0]
        assert reusing.answer(reusing.roi())[0] == alone.answer(alone.roi())[0]


def test_a_block_of_a_question_that_skipped_the_gate_serves_one_that_asks_it(pipeline, picture):
    pictures = [picture(300, 140)]
    walk = Walk(pipeline, pictures, single_question("Why?"))
    prompt = walk.gated.state.prompt
    bare = [dataclasses.replace(block, branch=None) for block in walk.gated.blocks]
    again = pipeline.gate.run([PrefillInput(prompt, [None], True, bare)])[0]
    assert again.p_refine == pytest.approx(walk.gated.p_refine, abs=1e-5)
    assert again.blocks[0].branch is not None
