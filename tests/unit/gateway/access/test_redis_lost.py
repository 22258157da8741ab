"""Redis stops, hangs, fills up and comes back: answers go on, quotas become local, and recover."""

import asyncio
import time

import pytest

from gateway.access.guard import PROBE_LIMIT_S
from qzoom.errors import QuotaExceeded, Unauthenticated, Unavailable
from qzoom.store.api_keys import new_key
from qzoom.store.limits import TenantLimits
from qzoom.store.opening import open_store
from qzoom.store.runtime import RuntimeSettings

THREE = RuntimeSettings(None, TenantLimits(requests_per_minute=3))


async def _let_in(system, ask, count):
    outcomes = [
        await asyncio.gather(system.answer(ask()), return_exceptions=True) for _ in range(count)
    ]
    refused = sum(isinstance(outcome, QuotaExceeded) for [outcome] in outcomes)
    assert all(isinstance(o, (str, QuotaExceeded)) for [o] in outcomes), outcomes
    return count - refused


def _state(system):
    return system.access.status()["state"]


async def test_a_redis_that_stops_costs_no_answer_and_comes_back(
    make_system, ask, own_redis, eventually
):
    gateways = [make_system(store=own_redis.url, initial=THREE) for _ in range(2)]
    await eventually(lambda: all(gateway.access.has_read for gateway in gateways))
    assert await _let_in(gateways[0], ask, 2) == 2

    own_redis.stop()
    # Each gateway counts for itself now, from what it has seen last.
    assert [await _let_in(gateway, ask, 5) for gateway in gateways] == [1, 3]
    assert [_state(gateway) for gateway in gateways] == ["degraded"] * 2
    assert gateways[0].access.status()["reason"] == "Redis: ConnectionError"
    assert gateways[0].count("qzoom_store_degraded") == 1
    assert gateways[0].count("qzoom_store_losses_total") == 1

    own_redis.start()
    await eventually(lambda: [_state(gateway) for gateway in gateways] == ["ok"] * 2)
    assert gateways[0].count("qzoom_store_degraded") == 0
    # Exact over both again.
    assert sum([await _let_in(gateway, ask, 5) for gateway in gateways]) == 3


async def test_nobody_waits_for_a_redis_that_hangs(make_system, ask, own_redis, eventually):
    system = make_system(store=own_redis.url, initial=THREE)
    await eventually(lambda: system.access.has_read)
    assert await _let_in(system, ask, 1) == 1
    with own_redis.client() as client:
        client.execute_command("CLIENT", "PAUSE", 3000, "ALL")

    outcomes = await asyncio.gather(
        *(system.answer(ask(key=f"{i}")) for i in range(20)), return_exceptions=True
    )

    # All were answered or refused while it hung, though each has a key and a quota to ask about.
    assert _state(system) == "degraded"
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 2
    assert "no answer within" in system.access.status()["reason"]
    samples = system.telemetry.metrics.snapshot().samples
    asked = sum(v for (name, _), v in samples.items() if name == "qzoom_store_seconds_count")
    await asyncio.gather(*(system.answer(ask()) for _ in range(20)), return_exceptions=True)
    samples = system.telemetry.metrics.snapshot().samples
    assert asked == sum(
        v for (name, _), v in samples.items() if name == "qzoom_store_seconds_count"
    ), "Redis was asked although it was known to hang"
    await eventually(lambda: _state(system) == "ok")


async def test_a_redis_that_is_full_is_as_good_as_gone(make_system, ask, own_redis, eventually):
    system = make_system(store=own_redis.url, initial=THREE)
    await eventually(lambda: system.access.has_read)
    with own_redis.client() as client:
        client.config_set("maxmemory", "1")

        assert await _let_in(system, ask, 5) == 3
        assert _state(system) == "degraded"
        # Reading works, which is not enough to be well.
        await asyncio.sleep(2.5 * PROBE_LIMIT_S / 2)
        assert _state(system) == "degraded"

        client.config_set("maxmemory", "0")
    await eventually(lambda: _state(system) == "ok")


@pytest.fixture
async def delayed(own_redis, tmp_path):
    """The same Redis behind a line whose delay in seconds a test may choose."""
    delay = {"s": 0.0}

    async def carry(reader, writer):
        try:
            while data := await reader.read(65536):
                await asyncio.sleep(delay["s"])
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def connected(reader, writer):
        far_reader, far_writer = await asyncio.open_unix_connection(own_redis.socket)
        lines = [carry(reader, far_writer), carry(far_reader, writer)]
        tasks.update(asyncio.ensure_future(line) for line in lines)

    tasks: set[asyncio.Future[None]] = set()
    path = str(tmp_path / "line.sock")
    server = await asyncio.start_unix_server(connected, path)
    yield f"unix://{path}", delay
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_redis_that_is_too_slow_stays_lost_until_it_is_fast(
    make_system, ask, delayed, eventually
):
    address, delay = delayed
    system = make_system(store=address, initial=THREE)
    await eventually(lambda: system.access.has_read)

    delay["s"] = 0.1
    assert await _let_in(system, ask, 4) == 3
    await asyncio.sleep(2.0)
    assert _state(system) == "degraded"
    assert system.count("qzoom_store_losses_total") == 1

    delay["s"] = 0.0
    await eventually(lambda: _state(system) == "ok")


async def test_keys_are_known_while_redis_is_away(make_system, own_redis, eventually):
    store = open_store(own_redis.url)
    key, record = new_key("acme", "", time.time())
    await store.add_key(record)
    system = make_system(store=own_redis.url, required=True)
    headers = {"authorization": f"Bearer {key}"}
    await eventually(lambda: system.access.has_read)
    assert (await system.access.identify(headers)).tenant == "acme"

    own_redis.stop()

    assert (await system.access.identify(headers)).tenant == "acme"
    with pytest.raises(Unauthenticated):
        await system.access.identify({"authorization": f"Bearer {new_key('acme', '', 0)[0]}"})
    await store.close()


async def test_a_gateway_that_never_saw_the_keys_says_so(make_system, tmp_path, eventually):
    system = make_system(store=f"unix://{tmp_path}/none.sock", required=True)
    await eventually(lambda: _state(system) == "degraded")

    with pytest.raises(Unavailable, match="keys cannot be read") as caught:
        await system.access.identify({"authorization": f"Bearer {new_key('acme', '', 0)[0]}"})

    assert caught.value.retry_after_s


async def test_what_began_before_ends_after(make_system, ask, own_redis, eventually):
    system = make_system(store=own_redis.url, initial=THREE)
    await eventually(lambda: system.access.has_read)
    system.flow.go.clear()
    answering = asyncio.ensure_future(system.answer(ask(key="k")))
    await eventually(lambda: system.flow.runs == 1)

    own_redis.stop()
    system.flow.go.set()

    assert await answering == "what? 1"
    assert _state(system) == "degraded"


async def test_an_empty_redis_takes_no_key_away(make_system, own_redis, eventually):
    store = open_store(own_redis.url)
    key, record = new_key("acme", "", time.time())
    await store.add_key(record)
    system = make_system(store=own_redis.url, required=True)
    headers = {"authorization": f"Bearer {key}"}
    await eventually(lambda: system.access.has_read)
    await system.access.identify(headers)

    own_redis.stop()
    await eventually(lambda: _state(system) == "degraded")
    own_redis.start()
    await eventually(lambda: _state(system) == "ok")
    assert (await system.access.identify(headers)).tenant == "acme"

    # The gateway has written back what it knew, so that the key can be revoked.
    async with asyncio.timeout(10):
        while not (await store.configuration("")):
            await asyncio.sleep(0.05)
    await store.revoke_key(record.id, time.time())
    await eventually(lambda: system.access._shared.key(record.id).revoked is not None)
    with pytest.raises(Unauthenticated):
        await system.access.identify(headers)
    await store.close()
