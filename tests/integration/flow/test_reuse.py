"""What a later question about a picture costs, through the gateway's flow on the four services."""

import asyncio
import dataclasses

import pytest

from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling

GREEDY = Sampling(max_tokens=5)
DIRECT = Options(route="auto", tau_gate=1.0)
ZOOM = Options(route="auto", tau_gate=0.0, tau_roi=1e-6)
WHAT, WHY = single_question("What is it?"), single_question("Why is that so?")


async def cost(services, coroutine):
    """Run a request; return its result, its calls, and its pairs (token, layer)."""
    services.calls.clear()
    services.sent.clear()
    puts, before = services.puts, await services.work()
    result = await coroutine
    return result, dict(services.calls), services.puts - puts, (await services.work()) - before


@pytest.mark.parametrize(("name", "options"), [("direct", DIRECT), ("zoom", ZOOM)])
async def test_a_second_question_needs_no_picture(
    flow, picture, local_services, pipeline, name, options
):
    one, pixels = flow(), picture(300, 200, 300 + len(name))
    first, calls, puts, full = await cost(local_services, one.ask(WHAT, pixels, options))
    assert first[0] == list(pipeline.answer(WHAT, [pixels], options, GREEDY).ids)
    assert (calls["encode_coarse"], puts) == (1, 1)
    second, calls, puts, work = await cost(local_services, one.ask(WHY, pixels, options))
    expected = pipeline.answer(WHY, [pixels], options, GREEDY)
    assert (second[0], second[1].route) == (list(expected.ids), name)
    assert "encode_coarse" not in calls
    assert work["gate", "lower"] < full["gate", "lower"]
    assert work["llm", "upper"] < full["llm", "upper"]
    if name == "direct":
        assert calls == {"prefill": 1, "answer": 1}
        assert puts == 0
        # The gate's reply, its suffix, and the tokens: the block was not sent again.
        assert sum(hasattr(r.value, "nbytes") for r in local_services.sent) == 1
    assert {"encoder.coarse", "gate.prefill", "llm.resume"} <= set(second[2].stage_ms)


@pytest.mark.parametrize(("name", "options"), [("direct", DIRECT), ("zoom", ZOOM)])
@pytest.mark.parametrize("reuse_bytes", [0, 10**8])
async def test_small_state_travels_inside_messages(
    flow, picture, local_services, pipeline, name, options, reuse_bytes
):
    one, pixels = flow(reuse_bytes, by_value_bytes=10**8), picture(300, 200, 305 + len(name))
    for question in (WHAT, WHY):
        ids, started, _ = await one.ask(question, pixels, options)
        expected = pipeline.answer(question, [pixels], options, GREEDY)
        assert (ids, started.route) == (list(expected.ids), name)
    assert all(by_value for _, by_value in local_services.by_value)
    assert local_services.puts == 0
    assert not any(reference.num_opened for reference in local_services.sent)
    assert (one.memory.num_bytes > 0) is (reuse_bytes > 0)


async def test_what_is_kept_as_a_reference_never_travels_inside_a_message(
    flow, picture, local_services, pipeline
):
    by_reference, pixels = flow(), picture(300, 200, 315)
    await by_reference.ask(WHAT, pixels, DIRECT)
    # Another limit on the same memory: a request of another size.
    by_value = flow(by_value_bytes=10**8)
    by_value.flow._memory = by_reference.memory
    local_services.by_value.clear()
    ids, *_ = await by_value.ask(WHY, pixels, DIRECT)
    assert ids == list(pipeline.answer(WHY, [pixels], DIRECT, GREEDY).ids)
    assert local_services.by_value == [("prefill", False), ("answer", False)]


async def test_a_second_look_into_the_same_box_needs_neither_picture_nor_crop(
    flow, picture, local_services
):
    one, pixels = flow(), picture(300, 200, 310)
    first, *_ = await cost(local_services, one.ask(WHAT, pixels, ZOOM))
    again, calls, puts, _ = await cost(local_services, one.ask(WHAT, pixels, ZOOM))
    assert again[0] == first[0]
    assert calls == {"prefill": 1, "propose": 1, "answer": 1}
    assert puts == 0


async def test_a_gateway_that_holds_nothing_is_served_by_services_that_do(
    flow, picture, local_services
):
    pixels = picture(300, 200, 320)
    first, *_ = await cost(local_services, flow().ask(WHAT, pixels, ZOOM))
    other, calls, _, work = await cost(local_services, flow().ask(WHAT, pixels, ZOOM))
    assert other[0] == first[0]
    assert calls["encode_coarse"] == calls["encode_roi"] == 1
    prompt_tokens = other[2].prompt_tokens
    assert 0 < work["gate", "lower"] < prompt_tokens
    assert 0 < work["llm", "upper"] < prompt_tokens * 4


async def test_tenants_share_nothing(flow, picture, local_services):
    one, pixels = flow(), picture(300, 200, 330)
    first, calls, puts, work = await cost(local_services, one.ask(WHAT, pixels, ZOOM, "a"))
    other, its_calls, its_puts, its_work = await cost(
        local_services, one.ask(WHAT, pixels, ZOOM, "b")
    )
    assert other[0] == first[0]
    assert (its_calls, its_puts, its_work) == (calls, puts, work)


@pytest.mark.parametrize("options", [DIRECT, ZOOM])
async def test_what_has_died_is_computed_again_and_forgotten(
    flow, picture, local_services, options
):
    one, pixels = flow(), picture(300, 200, 340 if options is ZOOM else 341)
    first, *_ = await cost(local_services, one.ask(WHAT, pixels, options))
    kept = [reference for reference in local_services.sent if hasattr(reference.value, "nbytes")]
    for reference in kept:
        reference.is_lost = True
    assert "" not in local_services.affinities[-3:]
    # The llm of another replica, which does not hold the picture, opens what has died.
    for name in ("gate", "rpn", "llm", "encoder"):
        forget(local_services.replicas[name]._service)
    again = await one.ask(WHAT, pixels, options)
    assert again[0] == first[0]
    assert local_services.affinities[-1] == "", "what runs again prefers no replica"
    again, calls, *_ = await cost(local_services, one.ask(WHAT, pixels, options))
    assert again[0] == first[0]
    assert "encode_coarse" not in calls


def forget(service):
    """Empty a service's cache, as a new replica's is."""
    cache = getattr(service, "_prefixes", None) or service._cache
    lru = getattr(cache, "_blocks", cache)
    for key in list(lru._values):
        lru.discard(key)


async def test_a_gateway_that_may_keep_nothing_keeps_nothing(flow, picture, local_services):
    one, pixels = flow(0), picture(300, 200, 350)
    first, *_ = await cost(local_services, one.ask(WHAT, pixels, ZOOM))
    again, calls, *_ = await cost(local_services, one.ask(WHAT, pixels, ZOOM))
    assert again[0] == first[0]
    assert (calls["encode_coarse"], calls["encode_roi"]) == (1, 1)
    assert one.memory.num_bytes == 0


async def test_questions_together_share_and_answer_as_alone(
    flow, picture, local_services, pipeline
):
    one, pixels = flow(), picture(300, 200, 360)
    questions = [single_question(f"What is the number {i}?") for i in range(5)]
    asked = [one.ask(q, pixels, o) for q in questions for o in (DIRECT, ZOOM)]
    answers, _, _, work = await cost(local_services, asyncio.gather(*asked))
    expected = [
        list(pipeline.answer(q, [pixels], o, GREEDY).ids) for q in questions for o in (DIRECT, ZOOM)
    ]
    assert [ids for ids, *_ in answers] == expected
    split = pipeline.checkpoint.qzoom.split_layer
    coarse = answers[0][2].prompt_tokens  # of a direct answer
    visual = answers[0][1].visual_tokens.coarse
    assert work["gate", "lower"] < (coarse + 9 * (coarse - visual)) * split + 50 * split


async def test_the_waterfall_says_what_was_reused(flow, picture):
    one, pixels = flow(), picture(300, 200, 370)
    await one.ask(WHAT, pixels, DIRECT)
    _, started, _ = await one.ask(WHY, pixels, DIRECT)
    spans = {span.name: span for span in one.telemetry.traces.get(started.trace_id).spans}
    assert spans["encoder.coarse"].reused_tokens == started.visual_tokens.coarse
    assert spans["gate.prefill"].reused_tokens >= started.visual_tokens.coarse
    assert spans["llm.resume"].reused_tokens >= started.visual_tokens.coarse
    assert dataclasses.asdict(spans["gate.prefill"])["reused_tokens"] > 0
