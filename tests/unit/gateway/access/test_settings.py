"""Keys and settings reach every gateway within a second, without a restart."""

import asyncio
import time

import pytest

from gateway.access.shared import POLL_S
from qzoom.errors import QuotaExceeded, Unauthenticated
from qzoom.store.api_keys import new_key
from qzoom.store.limits import TenantLimits
from qzoom.store.opening import open_store
from qzoom.store.runtime import RuntimeSettings


@pytest.fixture(params=["embedded", "redis"])
def address(request, tmp_path):
    if request.param == "embedded":
        return f"sqlite://{tmp_path}/store.sqlite3"
    server = request.getfixturevalue("redis_server")
    with server.client() as client:
        client.flushall()
    return server.url


@pytest.fixture
async def store(address):
    opened = open_store(address)
    yield opened
    await opened.close()


def test_a_change_is_looked_for_twice_in_a_second():
    assert POLL_S <= 0.5


async def test_every_gateway_obeys_a_new_setting(make_system, ask, address, store, eventually):
    gateways = [make_system(store=address) for _ in range(3)]
    assert [gateway.access.tau_gate for gateway in gateways] == [None] * 3

    await store.put_setting("tau_gate", "0.75")
    await store.put_setting("limits.acme.requests_per_minute", "0")

    await eventually(lambda: {gateway.access.tau_gate for gateway in gateways} == {0.75})
    await eventually(lambda: all("acme" in g.access._shared.tenants for g in gateways))
    for gateway in gateways:
        with pytest.raises(QuotaExceeded):
            await gateway.answer(ask(tenant="acme"))
        assert await gateway.answer(ask(tenant="umbrella"))
    assert gateways[0].count("qzoom_quota_refusals_total", tenant="acme", limit="requests") == 1

    await store.put_setting("limits.acme.requests_per_minute", None)
    await eventually(lambda: not any(g.access._shared.settings.tenant_limits for g in gateways))
    assert await gateways[2].answer(ask(tenant="acme"))


async def test_a_new_key_lets_in_and_a_revoked_one_does_not(
    make_system, address, store, eventually
):
    system = make_system(store=address, required=True)
    key, record = new_key("acme", "laptop", time.time())
    headers = {"authorization": f"Bearer {key}"}
    await eventually(lambda: system.access.has_read)
    with pytest.raises(Unauthenticated):
        await system.access.identify(headers)

    await store.add_key(record)
    await eventually(lambda: system.access._shared.key(record.id) is not None)
    caller = await system.access.identify(headers)
    assert (caller.tenant, caller.name) == ("acme", f"key:{record.id}")

    await store.revoke_key(record.id, time.time())
    await eventually(lambda: system.access._shared.key(record.id).revoked is not None)
    with pytest.raises(Unauthenticated):
        await system.access.identify(headers)
    assert system.count("qzoom_auth_failures_total") == 2


async def test_a_new_key_lets_in_at_once(make_system, tmp_path):
    address = f"sqlite://{tmp_path}/store.sqlite3"
    system, store = make_system(store=address, required=True), open_store(address)
    key, record = new_key("acme", "laptop", time.time())
    await system.access.identify({"authorization": f"Bearer {await _other(store)}"})

    await store.add_key(record)

    assert (await system.access.identify({"authorization": f"Bearer {key}"})).tenant == "acme"
    await store.close()


async def _other(store):
    key, record = new_key("umbrella", "", time.time())
    await store.add_key(record)
    return key


async def test_an_expired_key_lets_nobody_in(make_system, address, store, eventually):
    system = make_system(store=address, required=True)
    key, record = new_key("acme", "", time.time() - 100, lifetime_s=99)
    await store.add_key(record)
    await eventually(lambda: system.access._shared.key(record.id) is not None)

    with pytest.raises(Unauthenticated, match="not valid"):
        await system.access.identify({"authorization": f"Bearer {key}"})


async def test_a_guess_learns_nothing_and_does_not_flood_the_store(
    make_system, address, store, eventually
):
    system = make_system(store=address, required=True)
    key, record = new_key("acme", "", time.time())
    await store.add_key(record)
    await eventually(lambda: system.access._shared.key(record.id) is not None)
    before = system.count("qzoom_store_seconds_count", operation="configuration")
    guesses = [key[:-4] + "AAAA", *(new_key("acme", "", 0)[0] for _ in range(200))]

    outcomes = await asyncio.gather(
        *(system.access.identify({"authorization": f"Bearer {guess}"}) for guess in guesses),
        return_exceptions=True,
    )

    assert {str(outcome) for outcome in outcomes} == {"the key or token is not valid"}
    after = system.count("qzoom_store_seconds_count", operation="configuration")
    assert after - before <= 3


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (None, "a key is needed"),
        ("", "must read"),
        ("Bearer", "must read"),
        ("Basic dXNlcjpwYXNz", "must read"),
        ("Bearer none", "not valid"),
        ("Bearer " + "x" * 10_000, "not valid"),
        ("Bearer a.b.c", "not valid"),
        ("Bearer \N{SNOWMAN}", "not valid"),
    ],
)
async def test_what_is_no_key_is_refused(make_system, header, words):
    system = make_system(required=True)
    headers = {} if header is None else {"authorization": header}

    with pytest.raises(Unauthenticated, match=words):
        await system.access.identify(headers)


@pytest.mark.parametrize("header", [None, "Bearer none", "Basic x", "rubbish"])
async def test_where_nobody_is_asked_everybody_is_the_default_tenant(make_system, header):
    system = make_system()
    headers = {} if header is None else {"authorization": header}

    caller = await system.access.identify(headers)

    assert (caller.tenant, caller.sees) == ("default", None)


async def test_other_settings_of_the_start_do_not_go_over_written_ones(make_system, eventually):
    system = make_system(initial=RuntimeSettings(0.4, TenantLimits(requests_per_minute=9)))
    await eventually(lambda: system.access.has_read)
    shared = system.access._shared

    system.access.reconfigure(RuntimeSettings(0.6, TenantLimits(concurrency=2)))
    assert shared.settings.tau_gate == 0.6
    assert shared.settings.limits("acme") == TenantLimits(concurrency=2)

    await system.access._guard.call("put", lambda store: store.put_setting("tau_gate", "0.9"))
    await eventually(lambda: system.access.tau_gate == 0.9)
    system.access.reconfigure(RuntimeSettings(0.1))
    assert system.access.tau_gate == 0.9
