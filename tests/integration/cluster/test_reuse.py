"""A later question about a picture computes its own tokens only, and answers the same."""

import asyncio
import dataclasses
from collections import Counter

import pytest
import torch

from qzoom.contracts.conversation import Picture, Text, Turn, single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.model.loading import open_checkpoint
from qzoom.model.pipeline import Pipeline

pytestmark = pytest.mark.cluster
SIZE = (300, 200)
GREEDY = Sampling(max_tokens=6)
ROUTES = {
    "direct": Options(route="auto", tau_gate=1.0),
    "zoom": Options(route="auto", tau_gate=0.0, tau_roi=0.05),
}
QUESTIONS = ("What is it?", "Which code is on the red star?", "Why?", "How many are there?")
NUM_DELIMITERS = 2


@pytest.fixture(scope="module")
def pipeline(cluster):
    """The method in one process, which reuses nothing."""
    torch.set_num_threads(1)
    return Pipeline.open(cluster.checkpoint)


@pytest.fixture(scope="module")
def depths(cluster):
    """B, L, gate depth and full layers of the RPN."""
    checkpoint = open_checkpoint(cluster.checkpoint)
    config = checkpoint.qzoom
    total = checkpoint.hf_config.get_text_config().num_hidden_layers
    return config.split_layer, total, config.gate_depth, config.rpn_depth - 1


@pytest.fixture
def worked(flow):
    """Run a coroutine, and return its result and the pairs (token, layer) that it cost."""

    async def count():
        totals = Counter()
        for name in ("gate", "rpn", "llm"):
            pairs = await getattr(flow.handles, name).options(_by_reference=True).work.remote()
            for (stack, _), number in pairs.items():
                totals[name, stack] += number
        return totals

    async def run(coroutine):
        before = await count()
        result = await coroutine
        return result, (await count()) - before

    return run


def block_of(pipeline, pixels, question):
    """Tokens up to the end of the picture, and of the whole coarse prompt."""
    grid = pipeline.encoder.prepare_coarse(pixels).patches.grid
    size = (pixels.shape[1], pixels.shape[0])
    prompt = pipeline.gate.tokenize(single_question(question), [grid], [size])
    return prompt.prefix_len, len(prompt.ids)


@pytest.mark.parametrize("route", list(ROUTES))
async def test_a_second_question_computes_its_own_tokens(
    flow, picture, pipeline, worked, depths, route
):
    split, total, gate_depth, rpn_layers = depths
    pixels, options = picture(*SIZE, 200 + len(route)), ROUTES[route]
    await flow.answer(single_question(QUESTIONS[0]), [pixels], options, GREEDY)
    asked = flow.answer(single_question(QUESTIONS[1]), [pixels], options, GREEDY)
    answer, work = await worked(asked)
    expected = pipeline.answer(single_question(QUESTIONS[1]), [pixels], options, GREEDY)
    assert (answer.started.route, answer.ids) == (route, expected.ids)

    block, coarse = block_of(pipeline, pixels, QUESTIONS[1])
    own = coarse - block
    assert work["gate", "lower"] == own * split
    assert work["gate", "gate"] == own * gate_depth
    if route == "direct":
        assert work["llm", "upper"] == own * (total - split)
        assert work["llm", "lower"] == work["rpn", "rpn"] == 0
    else:
        # Of the RPN's last full layer only the last token is needed.
        assert work["rpn", "rpn"] == own * (rpn_layers - 1) + 1
        tail = answer.finished.prompt_tokens - block
        assert work["llm", "lower"] <= tail * split
        assert work["llm", "upper"] <= tail * (total - split)
        assert answer.started.visual_tokens.roi + NUM_DELIMITERS < tail


async def test_a_second_look_into_the_same_box_computes_the_question_only(
    flow, picture, pipeline, worked, depths
):
    split, total, *_ = depths
    pixels = picture(*SIZE, 210)
    first = await flow.answer(single_question(QUESTIONS[0]), [pixels], ROUTES["zoom"], GREEDY)
    # The same question for certain looks into the same box.
    asked = flow.answer(single_question(QUESTIONS[0]), [pixels], ROUTES["zoom"], GREEDY)
    again, work = await worked(asked)
    assert again.ids == first.ids
    assert [r.box_px for r in again.started.regions] == [r.box_px for r in first.started.regions]
    block, coarse = block_of(pipeline, pixels, QUESTIONS[0])
    assert work["llm", "lower"] == (coarse - block) * split
    assert work["llm", "upper"] == (coarse - block) * (total - split)


async def test_questions_that_arrive_together_share_the_picture(
    flow, picture, pipeline, worked, depths
):
    split, *_ = depths
    pixels = picture(*SIZE, 220)
    asked = [
        flow.answer(single_question(question), [pixels], ROUTES[route], GREEDY)
        for question in QUESTIONS
        for route in ROUTES
    ]
    answers, work = await worked(asyncio.gather(*asked))
    sizes = [block_of(pipeline, pixels, question) for question in QUESTIONS]
    block = sizes[0][0]
    own = 2 * sum(coarse - block for _, coarse in sizes)
    assert work["gate", "lower"] == (block + own) * split
    expected = [
        pipeline.answer(single_question(question), [pixels], ROUTES[route], GREEDY)
        for question in QUESTIONS
        for route in ROUTES
    ]
    assert [answer.ids for answer in answers] == [answer.ids for answer in expected]


async def test_a_later_turn_reuses_the_picture_of_an_earlier_one(
    flow, picture, pipeline, worked, depths
):
    split, *_ = depths
    pixels = picture(*SIZE, 230)
    first = await flow.answer(single_question(QUESTIONS[0]), [pixels], ROUTES["zoom"], GREEDY)
    turns = (
        Turn("user", (Picture(0), Text(QUESTIONS[0]))),
        Turn("assistant", (Text(first.text or "Nothing."),)),
        Turn("user", (Text(QUESTIONS[1]),)),
    )
    answer, work = await worked(flow.answer(turns, [pixels], ROUTES["direct"], GREEDY))
    assert answer.ids == pipeline.answer(turns, [pixels], ROUTES["direct"], GREEDY).ids
    block, _ = block_of(pipeline, pixels, QUESTIONS[0])
    assert work["gate", "lower"] == (answer.finished.prompt_tokens - block) * split


async def test_tenants_share_nothing(flow, picture, worked):
    pixels, question = picture(*SIZE, 240), single_question(QUESTIONS[0])

    async def ask(tenant):
        request = flow.request(question, [pixels], ROUTES["zoom"], GREEDY)
        return [e async for e in flow.flow.run(dataclasses.replace(request, tenant=tenant))]

    _, first = await worked(ask("one"))
    _, again = await worked(ask("one"))
    _, other = await worked(ask("another"))
    assert other == first
    assert again["gate", "lower"] < first["gate", "lower"]
    assert again["llm", "upper"] < first["llm", "upper"]
