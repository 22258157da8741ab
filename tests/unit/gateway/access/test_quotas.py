"""Reserved before the work, settled after it: over gateways, on errors, on cancellation."""

import asyncio
from contextlib import aclosing

import pytest

from gateway.access.prediction import visual_cost, with_threshold
from gateway.events import Started
from qzoom.contracts.budget import ImageRules
from qzoom.contracts.options import Options
from qzoom.contracts.status import ModelFacts
from qzoom.errors import DeadlineExceeded, QuotaExceeded, TooLarge, Unavailable
from qzoom.store.limits import TenantLimits
from qzoom.store.runtime import RuntimeSettings

ELSEWHERE = "https://example.com/picture.png"
"""Stands for a picture that was not fetched yet."""


def limited(**limits):
    return RuntimeSettings(None, TenantLimits(**limits))


async def test_without_limits_the_store_is_not_asked(make_system, ask):
    system = make_system()
    request = ask()

    assert await system.answer(request) == "what? 1"
    assert request.envelope.headers == {}
    assert system.count("qzoom_store_seconds_count", operation="admit") == 0


async def test_gateways_together_let_exactly_the_limit_in(make_system, ask):
    gateways = [make_system(initial=limited(requests_per_minute=23)) for _ in range(3)]

    outcomes = await asyncio.gather(
        *(gateways[i % 3].answer(ask(f"{i}")) for i in range(90)), return_exceptions=True
    )

    refused = [o for o in outcomes if isinstance(o, QuotaExceeded)]
    assert len(outcomes) - len(refused) == 23
    assert sum(gateway.flow.runs for gateway in gateways) == 23
    assert all(0 < error.retry_after_s <= 61 for error in refused)
    assert "used 23 of 23 requests in the last minute" in refused[0].message


async def test_the_client_is_told_what_is_left(make_system, ask):
    system = make_system(initial=limited(requests_per_minute=5, generated_tokens_per_minute=100))
    first, second = ask(), ask()

    await system.answer(first)
    await system.answer(second)

    told = second.envelope.headers
    # The first drew 2 tokens of the 10 that it reserved; the second reserves 10.
    assert told["x-ratelimit-remaining-requests"] == "3"
    assert told["x-ratelimit-remaining-generated-tokens"] == "88"
    assert told["ratelimit-policy"] == '"requests";q=5;w=60, "generated-tokens";q=100;w=60'
    assert told["ratelimit"].startswith('"requests";r=3;t=6')
    assert "x-ratelimit-limit-visual-tokens" not in told


async def test_visual_tokens_are_predicted_and_settled(make_system, ask):
    system = make_system(initial=limited(visual_tokens_per_minute=75))
    system.flow.go.clear()
    first = asyncio.ensure_future(system.answer(ask()))
    second = asyncio.ensure_future(system.answer(ask()))
    await asyncio.sleep(0.2)

    with pytest.raises(QuotaExceeded, match="used 60 of 75 visual tokens"):
        await system.answer(ask())
    system.flow.go.set()
    await asyncio.gather(first, second)

    third = ask()
    await system.answer(third)
    assert third.envelope.headers["x-ratelimit-remaining-visual-tokens"] == str(75 - 20 - 20 - 30)
    assert system.count("qzoom_tenant_tokens_total", tenant="other", kind="visual") == 60
    assert system.count("qzoom_tenant_tokens_total", tenant="other", kind="generated") == 6


async def test_what_never_fits_is_said_at_once(make_system, ask):
    system = make_system(initial=limited(generated_tokens_per_minute=9))

    with pytest.raises(TooLarge, match="may use 10 generated tokens, its tenant has 9") as caught:
        await system.answer(ask())

    assert caught.value.param == "max_tokens"
    assert caught.value.retry_after_s is None


async def test_places_are_given_back_whatever_happens(make_system, ask):
    system = make_system(initial=limited(concurrency=1))
    await system.answer(ask())
    system.flow.break_after = 1
    with pytest.raises(Exception, match="broken"):
        await system.answer(ask())
    system.flow.break_after = None
    async with aclosing(system.answers.run(ask())) as events:
        assert isinstance(await anext(events), Started)
        with pytest.raises(QuotaExceeded, match="1 requests of the tenant are worked on"):
            await system.answer(ask())
    system.flow.go.clear()
    hanging = asyncio.ensure_future(system.answer(ask()))
    await asyncio.sleep(0.2)
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    system.flow.go.set()

    assert await system.answer(ask())


async def test_a_client_that_leaves_at_any_moment_leaves_nothing_behind(make_system, ask):
    system = make_system(initial=limited(concurrency=3))
    for delay in range(60):
        leaving = asyncio.ensure_future(system.answer(ask()))
        for _ in range(delay):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    await asyncio.sleep(0.5)

    system.flow.go.clear()
    last = [asyncio.ensure_future(system.answer(ask())) for _ in range(3)]
    await asyncio.sleep(0.5)
    system.flow.go.set()

    assert len(await asyncio.gather(*last)) == 3


@pytest.mark.parametrize(
    ("error", "visual"), [(Unavailable("gone"), 0), (DeadlineExceeded("late"), 30)]
)
async def test_a_request_that_broke_pays_for_itself_alone(make_system, ask, error, visual):
    system = make_system(
        initial=limited(
            requests_per_minute=10, visual_tokens_per_minute=100, generated_tokens_per_minute=100
        )
    )
    system.flow.error = error
    with pytest.raises(type(error)):
        await system.answer(ask())
    system.flow.error = None

    request = ask()
    await system.answer(request)

    told = request.envelope.headers
    assert told["x-ratelimit-remaining-requests"] == "8"
    assert told["x-ratelimit-remaining-visual-tokens"] == str(100 - visual - 30)
    assert told["x-ratelimit-remaining-generated-tokens"] == "90"


async def test_a_refusal_is_counted_traced_and_named(make_system, ask):
    system = make_system(initial=limited(requests_per_minute=0))

    with pytest.raises(QuotaExceeded):
        await system.answer(ask(request_id="refused-1"))

    assert system.telemetry.traces.get("refused-1").outcome == "quota_exceeded"
    assert system.telemetry.traces.get("refused-1", "acme").outcome == "quota_exceeded"
    assert system.count("qzoom_quota_refusals_total", tenant="other", limit="requests") == 1
    assert system.count("qzoom_requests_total", route="none", outcome="quota_exceeded") == 1
    assert system.flow.runs == 0


async def test_pictures_cost_what_admission_predicts_for_them(ask):
    rules = ImageRules(28, None, fetch_resize=False, min_tokens=4, max_tokens=64)
    facts = ModelFacts("qwen2_5_vl", "r", True, True, 0.5, 0.5, 28, rules, 48, 1, 1, 1)

    async def told():
        return facts

    cost = visual_cost(told, lambda _request: [(280, 140)])
    threshold = with_threshold(told, lambda: 0.75)

    assert await cost(ask(options=Options(route="direct"))) == 50
    elsewhere = ask(images=(b"picture", ELSEWHERE), image_params=("a", "b"))
    assert await cost(elsewhere) == 50 + 48 + 64
    assert await cost(ask(options=Options(route="auto"))) == 50 + 48
    assert (await threshold()).tau_gate == 0.75
    assert (await with_threshold(told, lambda: None)()).tau_gate == 0.5
