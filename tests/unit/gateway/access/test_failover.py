"""The primary of a real set of Redis servers dies: answers go on, then the next one is used."""

import asyncio
import shutil
import signal
import time

import pytest

from qzoom.errors import QuotaExceeded, Unauthenticated
from qzoom.store.api_keys import new_key
from qzoom.store.base import StoreUnavailable
from qzoom.store.limits import TenantLimits
from qzoom.store.opening import open_store
from qzoom.store.runtime import RuntimeSettings
from tests.redis_set import RedisSet

pytestmark = [
    pytest.mark.skipif(
        shutil.which("redis-server") is None,
        reason="redis-server is not installed (scripts/system-packages.sh)",
    ),
    pytest.mark.timeout(240),
]

FIVE = RuntimeSettings(None, TenantLimits(requests_per_minute=5))
PATIENCE_S = 60.0


@pytest.fixture
def redis_set(tmp_path):
    with RedisSet(tmp_path) as running:
        yield running


async def _is(system, state):
    async with asyncio.timeout(PATIENCE_S):
        while system.access.status()["state"] != state:
            await asyncio.sleep(0.02)


async def _has_read(*systems):
    async with asyncio.timeout(PATIENCE_S):
        while not all(system.access.has_read for system in systems):
            await asyncio.sleep(0.02)


async def _let_in(system, ask, count):
    outcomes = [
        await asyncio.gather(system.answer(ask()), return_exceptions=True) for _ in range(count)
    ]
    assert all(isinstance(o, (str, QuotaExceeded)) for [o] in outcomes), outcomes
    return sum(isinstance(o, str) for [o] in outcomes)


async def test_gateways_follow_a_failover_and_no_answer_waits_for_it(make_system, ask, redis_set):
    gateways = [make_system(store=redis_set.url, initial=FIVE) for _ in range(2)]
    await _has_read(*gateways)
    assert sum([await _let_in(gateway, ask, 2) for gateway in gateways]) == 4

    gone = await asyncio.to_thread(redis_set.kill_primary)
    # Each for itself, at once, from what it has seen last, while nobody is the primary.
    assert [await _let_in(gateway, ask, 6) for gateway in gateways] == [3, 1]
    assert [g.access.status()["state"] for g in gateways] == ["degraded"] * 2
    following = await asyncio.to_thread(redis_set.wait_for_another, gone)
    for gateway in gateways:
        await _is(gateway, "ok")

    # What was counted before the failover was replicated, and is exact over both again.
    assert sum([await _let_in(gateway, ask, 6) for gateway in gateways]) == 1
    client = redis_set.client(following)
    assert int(client.info("clients")["connected_clients"]) > 2
    assert client.exists("{qzoom}:usage:acme")

    # The dead one comes back as a replica; nobody asks it.
    await asyncio.to_thread(redis_set.start, gone)
    await asyncio.sleep(1.5)
    assert [g.access.status()["state"] for g in gateways] == ["ok"] * 2


@pytest.mark.slow
async def test_a_primary_that_hangs_is_left_and_not_written_to_when_it_wakes(
    make_system, ask, redis_set
):
    system = make_system(store=redis_set.url, initial=FIVE)
    await _has_read(system)
    assert await _let_in(system, ask, 1) == 1
    hung = await asyncio.to_thread(lambda: redis_set.primary)
    redis_set.servers[hung].send_signal(signal.SIGSTOP)

    began = time.monotonic()
    assert await _let_in(system, ask, 3) == 3
    waited = system.telemetry.metrics.snapshot().samples[
        ("qzoom_store_seconds_sum", (("operation", "admit"),))
    ]
    # One question was given up after 50 ms, no other was asked; a busy machine is late.
    assert waited <= time.monotonic() - began
    assert "no answer within 50 ms" in system.access.status()["reason"]

    await asyncio.to_thread(redis_set.wait_for_another, hung)
    await _is(system, "ok")
    redis_set.servers[hung].send_signal(signal.SIGCONT)
    await asyncio.sleep(3.0)
    await _is(system, "ok")
    assert await _let_in(system, ask, 6) <= 4, (
        "counted by the new primary, whatever the old one says"
    )


async def test_a_revoked_key_stays_revoked_after_a_failover(make_system, redis_set):
    store = open_store(redis_set.url)
    key, record = new_key("acme", "", time.time())
    await store.add_key(record)
    system = make_system(store=redis_set.url, required=True)
    headers = {"authorization": f"Bearer {key}"}
    await _has_read(system)
    assert (await system.access.identify(headers)).tenant == "acme"

    await store.revoke_key(record.id, time.time())
    gone = await asyncio.to_thread(redis_set.kill_primary)
    await asyncio.to_thread(redis_set.wait_for_another, gone)
    await _is(system, "ok")

    with pytest.raises(Unauthenticated):
        await system.access.identify(headers)
    assert (await store.configuration("")).keys[record.id].revoked is not None
    await store.close()


async def test_a_change_that_no_replica_has_is_not_called_done(redis_set):
    primary = redis_set.primary
    for port, server in redis_set.servers.items():
        if port != primary:
            server.kill()
            server.wait(10)
    store = open_store(redis_set.url)

    with pytest.raises(StoreUnavailable, match="no replica within 1 s; it may be lost, repeat"):
        await store.put_setting("tau_gate", "0.5")
    await store.close()


@pytest.mark.slow
async def test_passwords_of_servers_and_sentinels(tmp_path, monkeypatch):
    with RedisSet(tmp_path, password="a-word") as running:
        stranger = open_store(running.url)
        monkeypatch.setenv("QZOOM_STORE_PASSWORD", "a-word")
        monkeypatch.setenv("QZOOM_STORE_SENTINEL_PASSWORD", "a-word")
        known = open_store(running.url)

        with pytest.raises(StoreUnavailable, match="Redis: "):
            await stranger.configuration("x")
        await known.put_setting("tau_gate", "0.5")
        assert (await known.configuration("")).settings == {"tau_gate": "0.5"}
        await stranger.close()
        await known.close()


async def test_no_sentinel_is_forgotten_when_one_is_silent(redis_set):
    store = open_store(redis_set.url)
    first = next(iter(redis_set.sentinels.values()))
    first.send_signal(signal.SIGSTOP)
    try:
        for _ in range(3):
            # Opens several connections at once; each asks the Sentinels where the primary is.
            await store.prepare()
        asked = store._connected.sentinel.sentinels
        assert {client.connection_pool.connection_kwargs["port"] for client in asked} == set(
            redis_set.sentinels
        )
    finally:
        first.send_signal(signal.SIGCONT)
        await store.close()
