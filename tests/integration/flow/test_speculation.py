"""The RPN may run while the gate decides: the same answers, and no work is done twice."""

import asyncio
import dataclasses

import pytest

from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling

GREEDY = Sampling(max_tokens=5)
CLOSED = Options(route="auto", tau_gate=1.0)
OPEN = Options(route="auto", tau_gate=0.0, tau_roi=1e-6)
WHAT, WHY = single_question("What is it?"), single_question("Why is that so?")
GATE_ATOL = 1e-5


@pytest.mark.parametrize("options", [CLOSED, OPEN], ids=["closed", "open"])
async def test_answers_are_those_of_a_gate_that_is_waited_for(
    flow, picture, local_services, pipeline, options
):
    one, pixels = flow(speculates=True), picture(300, 200, 400)
    for question in (WHAT, WHY):
        ids, started, _ = await one.ask(question, pixels, options)
        expected = pipeline.answer(question, [pixels], options, GREEDY)
        assert (ids, started.route) == (list(expected.ids), expected.route)
        assert started.p_refine == pytest.approx(expected.p_refine, abs=GATE_ATOL)
    # Nothing is asked twice, and what was begun in vain is not counted as a failure.
    assert local_services.calls["judge"] == local_services.calls["prefill"] == 2
    assert local_services.calls["propose"] == 2
    assert started.route == ("direct" if options is CLOSED else "zoom")


async def test_the_gate_computes_a_picture_once(flow, picture, local_services):
    one, pixels = flow(speculates=True), picture(300, 200, 410)
    await one.ask(WHAT, pixels, CLOSED)
    first = await local_services.work()
    await one.ask(WHAT, pixels, CLOSED)
    again = (await local_services.work()) - first
    # The question alone, through the layers below the gate and through its own.
    assert 0 < again["gate", "gate"] < first["gate", "gate"] / 2
    assert 0 < again["gate", "lower"] < first["gate", "lower"] / 2


async def test_a_route_that_is_given_waits_for_no_gate(flow, picture, local_services):
    one, pixels = flow(speculates=True), picture(300, 200, 420)
    for route in ("direct", "zoom"):
        _, started, _ = await one.ask(WHAT, pixels, dataclasses.replace(OPEN, route=route))
        assert started.p_refine is None
    assert local_services.calls["judge"] == 0
    assert local_services.calls["propose"] == 1


async def test_questions_together_answer_as_alone(flow, picture, pipeline):
    one, pixels = flow(speculates=True), picture(300, 200, 430)
    questions = [single_question(f"What is the number {i}?") for i in range(3)]
    cases = [(question, options) for question in questions for options in (CLOSED, OPEN)]
    answers = await asyncio.gather(*(one.ask(q, pixels, o) for q, o in cases))
    expected = [list(pipeline.answer(q, [pixels], o, GREEDY).ids) for q, o in cases]
    assert [ids for ids, *_ in answers] == expected
