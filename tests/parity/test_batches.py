"""A batch of unequal requests gives each the result that it has alone."""

import dataclasses

import numpy as np
import pytest
import torch

from qzoom.contracts.conversation import Text, Turn, single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.model.decoder import ResumeInput
from qzoom.model.prefill import PrefillInput
from qzoom.model.question import Question
from qzoom.model.rpn import RpnInput

ATOL = 2e-5  # float32, the order of sums depends on the shape of a pass
pytestmark = pytest.mark.parity


@pytest.fixture
def questions(picture, two_turns):
    """Unequal prompts, grids, routes and ways of sampling; one without a picture."""
    return [
        Question(
            single_question("What colour is the box?"),
            [picture(300, 140)],
            Options(route="direct"),
            Sampling(max_tokens=7),
        ),
        Question(
            single_question("What is the code on the small red box to the left?"),
            [picture(120, 330, seed=1)],
            Options(route="zoom"),
            Sampling(max_tokens=9, temperature=0.8, top_p=0.9, seed=5),
        ),
        Question(
            two_turns,
            [picture(160, 160, seed=2), picture(330, 90, seed=3)],
            Options(route="zoom", max_roi_tokens=576),
            Sampling(max_tokens=5),
        ),
        Question(
            (Turn("user", (Text("Hello."),)),),
            [],
            Options(),
            Sampling(max_tokens=6, temperature=1.3, seed=9),
        ),
        Question(
            single_question("Why?"),
            [picture(64, 64, seed=4)],
            Options(tau_gate=0.0),
            Sampling(max_tokens=8),
        ),
    ]


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_a_batch_equals_its_requests_alone(family, preset, pipeline_of, questions):
    pipeline = pipeline_of(family, preset)
    questions = [sharpened(pipeline, question) for question in questions]
    together = pipeline.answer_many(questions)
    alone = [pipeline.answer_many([question])[0] for question in questions]
    assert {answer.route for answer in together} == {"direct", "zoom"}
    for one, other in zip(together, alone, strict=True):
        if one.p_refine is not None:
            assert one.p_refine == pytest.approx(other.p_refine, abs=1e-5)
        assert without_floats(one) == without_floats(other)


def sharpened(pipeline, question):
    """Put the threshold where a tenth of the picture passes: random maps have no contrast."""
    heatmap = pipeline.answer_many([question])[0].heatmap
    if heatmap is None:
        return question
    options = dataclasses.replace(question.options, tau_roi=float(np.quantile(heatmap, 0.9)))
    return dataclasses.replace(question, options=options)


def without_floats(answer):
    proposal = answer.proposal and dataclasses.replace(answer.proposal, score=0.0)
    return dataclasses.replace(answer, p_refine=0, proposal=proposal, heatmap=None, stage_s={})


def test_the_order_of_a_batch_does_not_matter(pipeline, questions):
    forwards = pipeline.answer_many(questions)
    backwards = pipeline.answer_many(questions[::-1])[::-1]
    assert [a.ids for a in forwards] == [a.ids for a in backwards]


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        (Options(route="direct"), set()),
        (Options(route="zoom", tau_roi=0.999999), {"rpn.propose"}),
        (Options(route="zoom", tau_roi=1e-6), {"rpn.propose", "encoder.roi"}),
    ],
    ids=["direct", "no region", "zoom"],
)
def test_an_answer_names_the_stages_that_worked_for_it(pipeline, picture, options, stages):
    answer = pipeline.answer(single_question("What?"), [picture(120, 90)], options)
    always = {"encoder.coarse", "gate.prefill", "llm.resume", "llm.decode"}
    assert answer.stage_s.keys() == always | stages
    assert answer.route == ("zoom" if "encoder.roi" in stages else "direct")


def test_requests_join_and_leave_a_running_batch(pipeline, picture):
    """The first request decodes alone, then with a second, then alone again."""
    decoder, states = pipeline.decoder, []
    for size in ((300, 140), (120, 330)):
        visual = pipeline.encoder.encode([pipeline.encoder.prepare_coarse(picture(*size))])
        prompt = pipeline.gate.tokenize(single_question("What?"), [visual[0].grid], [size])
        states.append(pipeline.gate.run([PrefillInput(prompt, visual)])[0].state)

    expected = greedy(decoder, states[0], 9)
    cache = decoder.new_cache(2, 800)
    first, ids = start(decoder, cache, states[0])
    for _ in range(3):
        ids.append(advance(decoder, cache, {first: ids[-1]})[first])
    second, other = start(decoder, cache, states[1])
    for _ in range(2):
        drawn = advance(decoder, cache, {second: other[-1], first: ids[-1]})
        ids.append(drawn[first])
        other.append(drawn[second])
    cache.free(second)
    while len(ids) < len(expected):
        ids.append(advance(decoder, cache, {first: ids[-1]})[first])
    assert ids == expected
    assert other == greedy(decoder, states[1], len(other))


def start(decoder, cache, state):
    slot = cache.alloc()
    return slot, [int(decoder.resume(cache, [ResumeInput(slot, state)]).argmax())]


def advance(decoder, cache, last):
    logits = decoder.step(cache, list(last), list(last.values()))
    return dict(zip(last, logits.argmax(dim=-1).tolist(), strict=True))


def greedy(decoder, state, count):
    cache = decoder.new_cache(1, 800)
    slot, ids = start(decoder, cache, state)
    while len(ids) < count:
        ids.append(advance(decoder, cache, {slot: ids[-1]})[slot])
    return ids


def test_the_rpn_chooses_the_picture_that_peaks_highest(pipeline, picture, two_turns):
    images = [picture(200, 150), picture(90, 260, seed=1)]
    visuals = pipeline.encoder.encode([pipeline.encoder.prepare_coarse(i) for i in images])
    sizes = [(image.shape[1], image.shape[0]) for image in images]
    prompt = pipeline.gate.tokenize(two_turns, [v.grid for v in visuals], sizes)
    state = pipeline.gate.run([PrefillInput(prompt, visuals)])[0].state
    output = pipeline.rpn.run([RpnInput(state, tau_roi=1e-6)])[0]
    peaks = [float(roi_map.smoothed.max()) for roi_map in output.maps]
    best = int(np.argmax(peaks))
    assert output.proposal.image == output.heatmap_image == best
    assert output.proposal.score == pytest.approx(max(peaks))
    assert output.heatmap.shape == prompt.spans[best].grid


def test_one_picture_of_several_has_the_map_that_it_has_alone(pipeline, picture, two_turns):
    """Causality: the first picture's keys do not depend on what follows; the query does."""
    images = [picture(200, 150), picture(90, 260, seed=1)]
    visuals = pipeline.encoder.encode([pipeline.encoder.prepare_coarse(i) for i in images])
    sizes = [(image.shape[1], image.shape[0]) for image in images]
    grids = [v.grid for v in visuals]
    both = pipeline.gate.tokenize(two_turns, grids, sizes)
    one = pipeline.gate.tokenize(two_turns[:1], grids[:1], sizes[:1])
    first = pipeline.gate.run([PrefillInput(both, visuals)])[0].state
    second = pipeline.gate.run([PrefillInput(one, visuals[:1])])[0].state
    assert both.block_ends[0] == one.prefix_len
    assert torch.allclose(first.blocks[0].hidden, second.blocks[0].hidden, atol=ATOL, rtol=0)
    assert torch.allclose(first.blocks[0].kv, second.blocks[0].kv, atol=ATOL, rtol=0)
