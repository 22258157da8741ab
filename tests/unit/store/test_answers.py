"""Idempotency-Keys: one attempt at a time, the same answer again, bounded in time and bytes."""

import asyncio

import pytest

from qzoom.store.messages import Claim, Claimed, Keep, Renewal

LEASE_S, KEEP_S = 15.0, 3600.0


def claim(key="k", *, tenant="acme", fingerprint="f", owner="one"):
    return Claim(tenant, key, fingerprint, owner, LEASE_S)


def keep(of, answer=b"four", *, max_tenant_bytes=10**6, max_bytes=10**7):
    return Keep(of, answer, KEEP_S, max_tenant_bytes, max_bytes)


async def test_the_first_is_new_and_the_second_waits(store):
    assert await store.claim(claim(owner="one")) == Claimed("new")
    assert await store.claim(claim(owner="two")) == Claimed("running")


async def test_an_answer_is_given_again(store, clock):
    await store.claim(claim())
    await store.keep(keep(claim(), bytes(range(256))))
    clock.now += KEEP_S - 1

    assert await store.claim(claim(owner="two")) == Claimed("answered", bytes(range(256)))


async def test_another_request_with_the_same_key_is_refused(store):
    await store.claim(claim(fingerprint="f"))
    running = await store.claim(claim(fingerprint="g", owner="two"))
    await store.keep(keep(claim(fingerprint="f")))
    answered = await store.claim(claim(fingerprint="g", owner="two"))

    assert running == answered == Claimed("other")


async def test_keys_belong_to_their_tenant(store):
    await store.claim(claim(tenant="acme"))
    await store.keep(keep(claim(tenant="acme")))

    assert await store.claim(claim(tenant="umbrella")) == Claimed("new")


async def test_a_failed_attempt_may_be_repeated(store):
    await store.claim(claim(owner="one"))
    await store.release(claim(owner="one"))

    assert await store.claim(claim(owner="two")) == Claimed("new")


async def test_only_its_owner_releases_a_claim_and_nobody_an_answer(store):
    await store.claim(claim(owner="one"))
    await store.release(claim(owner="two"))
    assert await store.claim(claim(owner="two")) == Claimed("running")
    await store.keep(keep(claim(owner="one")))
    await store.release(claim(owner="one"))

    assert (await store.claim(claim(owner="two"))).state == "answered"


async def test_the_claim_of_a_dead_gateway_ends(store, clock):
    await store.claim(claim("held", owner="alive"))
    await store.claim(claim("lost", owner="dead"))
    for _ in range(4):
        clock.now += LEASE_S / 3
        await store.renew([Renewal("acme", None, claim("held", owner="alive"), LEASE_S)])

    assert (await store.claim(claim("held", owner="two"))).state == "running"
    assert (await store.claim(claim("lost", owner="two"))).state == "new"


async def test_an_attempt_that_lost_its_claim_keeps_no_answer(store, clock):
    await store.claim(claim(owner="slow"))
    clock.now += LEASE_S + 1
    await store.claim(claim(owner="two"))
    await store.renew([Renewal("acme", None, claim(owner="slow"), LEASE_S)])
    await store.keep(keep(claim(owner="slow"), b"late"))
    await store.keep(keep(claim(owner="two"), b"right"))
    await store.keep(keep(claim(owner="slow"), b"later"))

    assert (await store.claim(claim(owner="three"))).answer == b"right"


async def test_an_answer_is_forgotten_in_time(store, clock):
    await store.claim(claim())
    await store.keep(keep(claim()))
    clock.now += KEEP_S + 1

    assert await store.claim(claim(fingerprint="g", owner="two")) == Claimed("new")


async def _fill(store, clock, tenant, count, **bounds):
    for i in range(count):
        clock.now += 1
        mine = claim(f"{i}", tenant=tenant)
        await store.claim(mine)
        await store.keep(keep(mine, b"x" * 100, **bounds))


async def _kept(store, tenant, count):
    states = [
        (await store.claim(claim(f"{i}", tenant=tenant, owner="probe"))).state for i in range(count)
    ]
    return [i for i, state in enumerate(states) if state == "answered"]


async def test_a_tenant_keeps_its_newest_answers(store, clock):
    await _fill(store, clock, "umbrella", 3)
    await _fill(store, clock, "acme", 10, max_tenant_bytes=450)

    assert await _kept(store, "acme", 10) == [6, 7, 8, 9]
    assert await _kept(store, "umbrella", 3) == [0, 1, 2]


async def test_all_tenants_together_are_bounded(store, clock):
    await _fill(store, clock, "umbrella", 5)
    await _fill(store, clock, "acme", 6, max_bytes=800)

    assert await _kept(store, "umbrella", 5) == [3, 4]
    assert await _kept(store, "acme", 6) == [0, 1, 2, 3, 4, 5]


async def test_what_was_forgotten_takes_no_room(store, clock):
    await _fill(store, clock, "acme", 4, max_tenant_bytes=400)
    clock.now += KEEP_S + 10
    await _fill(store, clock, "acme", 4, max_tenant_bytes=400)
    clock.now += KEEP_S - 2
    mine = claim("new")
    await store.claim(mine)
    await store.keep(keep(mine, b"x" * 300, max_tenant_bytes=400))

    assert (await store.claim(claim("new", owner="probe"))).state == "answered"
    assert await _kept(store, "acme", 4) == [3]


@pytest.mark.parametrize("key", ["with:colon", "a b", "*", "x" * 255])
async def test_keys_may_look_like_anything(store, clock, key):
    await store.claim(claim(key))
    await store.keep(keep(claim(key), b"one", max_tenant_bytes=5))
    clock.now += 1
    await store.claim(claim("other"))
    await store.keep(keep(claim("other"), b"two", max_tenant_bytes=5))

    assert (await store.claim(claim(key, owner="probe"))).state == "new"
    assert (await store.claim(claim("other", owner="probe"))).answer == b"two"


async def test_of_many_attempts_at_once_one_is_new(make_store):
    gateways = [make_store() for _ in range(3)]

    claims = await asyncio.gather(*(gateways[i % 3].claim(claim(owner=f"{i}")) for i in range(60)))

    assert sorted(c.state for c in claims) == ["new"] + ["running"] * 59
    for gateway in gateways:
        await gateway.close()
