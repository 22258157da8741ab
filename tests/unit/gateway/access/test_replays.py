"""Same key, same answer: told again as it was, once, to its tenant alone."""

import asyncio
from contextlib import aclosing
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from gateway.access import replays
from gateway.access.replays import StoredAnswer, fingerprint, unpack
from gateway.events import (
    Brownout,
    Budgets,
    Delta,
    Finished,
    HeatMap,
    Region,
    StageMs,
    Started,
    VisualTokens,
)
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.errors import KeyInUse, KeyReused, QZoomError
from qzoom.store.limits import TenantLimits
from qzoom.store.runtime import RuntimeSettings


async def test_the_answer_is_told_again_by_any_gateway(make_system, ask):
    one, other = make_system(), make_system()
    first, again = ask(key="k", request_id="first"), ask(key="k", request_id="again")

    assert await one.answer(first) == "what? 1"
    assert await other.answer(again) == "what? 1"

    assert other.flow.runs == 0
    assert again.envelope.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.envelope.headers
    assert again.envelope.request_id == "first"
    assert again.envelope.received == first.envelope.received
    assert one.count("qzoom_idempotency_total", outcome="stored") == 1
    assert other.count("qzoom_idempotency_total", outcome="replayed") == 1


async def test_without_a_key_every_answer_is_new(make_system, ask):
    system = make_system()

    assert [await system.answer(ask()) for _ in range(2)] == ["what? 1", "what? 2"]


async def test_another_request_with_the_key_is_refused(make_system, ask):
    system = make_system()
    await system.answer(ask(key="k"))

    for other in (
        ask("how?", key="k"),
        ask(key="k", images=(b"other",)),
        ask(key="k", images=("https://example.com/picture.png",)),
        ask(key="k", options=Options(route="zoom")),
        ask(key="k", sampling=Sampling(max_tokens=11)),
        ask(key="k", stream=True),
    ):
        with pytest.raises(KeyReused, match="another content"):
            await system.answer(other)
    assert system.flow.runs == 1


async def test_a_second_attempt_waits_for_the_first(make_system, ask):
    one, other = make_system(), make_system()
    one.flow.go.clear()
    first = asyncio.ensure_future(one.answer(ask(key="k")))
    await asyncio.sleep(0.2)

    with pytest.raises(KeyInUse) as caught:
        await other.answer(ask(key="k"))
    one.flow.go.set()

    assert caught.value.retry_after_s
    assert await first == await other.answer(ask(key="k")) == "what? 1"


async def test_a_tenant_sees_only_its_own(make_system, ask):
    system = make_system()

    assert await system.answer(ask(key="k", tenant="acme")) == "what? 1"
    assert await system.answer(ask(key="k", tenant="umbrella")) == "what? 2"


async def test_an_error_is_not_kept(make_system, ask):
    system = make_system()
    system.flow.break_after = 1
    with pytest.raises(QZoomError):
        await system.answer(ask(key="k"))
    system.flow.break_after = None

    assert await system.answer(ask(key="k")) == "what? 2"


async def test_a_request_that_was_given_up_may_be_tried_again(make_system, ask):
    system = make_system()
    async with aclosing(system.answers.run(ask(key="k", stream=True))) as events:
        await anext(events)
        await anext(events)
    assert await system.answer(ask(key="k", stream=True)) == "what? 2"

    for delay in range(60):
        leaving = asyncio.ensure_future(system.answer(ask(key="left")))
        for _ in range(delay):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    await asyncio.sleep(0.5)

    assert (await system.answer(ask(key="left"))).startswith("what? ")


async def test_a_replay_costs_nothing(make_system, ask):
    system = make_system(
        initial=RuntimeSettings(None, TenantLimits(requests_per_minute=1, concurrency=1))
    )
    await system.answer(ask(key="k"))

    assert [await system.answer(ask(key="k")) for _ in range(3)] == ["what? 1"] * 3


async def test_a_refused_request_may_be_tried_again(make_system, ask):
    system = make_system(initial=RuntimeSettings(None, TenantLimits(concurrency=1)))
    async with aclosing(system.answers.run(ask())) as events:
        await anext(events)
        with pytest.raises(QZoomError):
            await system.answer(ask(key="k"))

    assert await system.answer(ask(key="k")) == "what? 2"


async def test_an_answer_that_is_too_long_is_not_kept(make_system, ask, monkeypatch):
    monkeypatch.setattr(replays, "MAX_ANSWER_BYTES", 100)
    system = make_system()

    assert await system.answer(ask(key="k")) == "what? 1"
    assert await system.answer(ask(key="k")) == "what? 2"
    assert system.count("qzoom_idempotency_total", outcome="too_large") == 2


def _whole() -> StoredAnswer:
    started = Started(
        "zoom",
        0.123456789012345,
        0.5,
        (Region(0, (1, 2, 3, 4), 0.1), Region(1, (5, 6, 7, 8), 0.2)),
        VisualTokens(36, 9, 200),
        "f" * 32,
        Budgets(64, 48),
        Brownout(2, ("tau_gate", "max_roi_tokens")),
    )
    values = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    started = replace(started, heatmap=HeatMap(1, values))
    finished = Finished("length", 40, 3, {"gate.prefill": StageMs(0.1, 2.25)}, "late")
    return StoredAnswer("r", 1.5e9 + 0.1, started, "snow \N{SNOWMAN}", 3, finished)


def test_everything_of_an_answer_is_kept():
    """A field that an answer gets later must have a value here, or be equal by default."""
    kept = _whole()
    packed = replays._STORED.dump_json(kept)
    again = unpack(packed)

    assert again is not None
    assert again.started.heatmap is not None
    assert kept.started.heatmap is not None
    np.testing.assert_array_equal(again.started.heatmap.values, kept.started.heatmap.values)
    plain = [replace(a, started=replace(a.started, heatmap=None)) for a in (kept, again)]
    assert plain[0] == plain[1]
    assert [type(getattr(again.started, f.name)) for f in fields(Started)] == [
        type(getattr(kept.started, f.name)) for f in fields(Started)
    ]
    assert all(is_dataclass(region) for region in again.started.regions)
    assert list(again.events())[1] == Delta("snow \N{SNOWMAN}", 3)


@pytest.mark.parametrize("packed", [b"", b"{}", b"\x80\x04.", b'{"request_id": 1}'])
def test_what_another_version_kept_is_answered_anew(packed):
    assert unpack(packed) is None


def test_a_name_or_time_changes_no_fingerprint(ask):
    one = ask(key="k", request_id="one")
    other = replace(ask(key="other", request_id="other"), deadline=one.deadline + 5, tenant="x")

    assert fingerprint(one) == fingerprint(other)
