"""Quotas and places: exact over several gateways, in every store."""

import asyncio
import random

import pytest

from qzoom.store.limits import Amounts, Resource, TenantLimits
from qzoom.store.messages import Charge, Renewal, Settlement
from qzoom.store.sqlite import SqliteStore

LEASE_S = 15.0


def charge(lease="a", tenant="acme", amounts=None, **limits):
    return Charge(tenant, lease, amounts or Amounts(1), TenantLimits(**limits), LEASE_S)


async def test_a_request_within_all_limits_begins_and_is_counted(store, clock):
    verdict = await store.admit(charge(amounts=Amounts(1, 20, 300), requests_per_minute=5))

    assert verdict.refused_by is None
    assert verdict.used == Amounts(1, 20, 300)
    assert verdict.running == 1
    assert verdict.second == int(clock.now)
    # A whole second counts until the last moment of it is a minute ago.
    assert verdict.reset_s == pytest.approx((60.75,) * 3, abs=0.001)


async def test_the_limit_is_the_last_that_begins(store):
    verdicts = [await store.admit(charge(f"{i}", requests_per_minute=3)) for i in range(5)]

    assert [v.refused_by for v in verdicts] == [None] * 3 + [Resource.REQUESTS] * 2
    assert verdicts[-1].used.requests == 3


@pytest.mark.parametrize("resource", list(Resource))
async def test_each_resource_has_its_limit(store, resource):
    amounts = Amounts(*(4 if other is resource else 0 for other in Resource))
    limits = {f"{resource}_per_minute": 10}

    verdicts = [await store.admit(charge(f"{i}", amounts=amounts, **limits)) for i in range(3)]

    assert [v.refused_by for v in verdicts] == [None, None, resource]


async def test_a_refused_request_counts_nothing(store):
    limits = {"requests_per_minute": 9, "visual_tokens_per_minute": 10}
    await store.admit(charge("a", amounts=Amounts(1, 8), **limits))

    refused = await store.admit(charge("b", amounts=Amounts(1, 3), **limits))
    small = await store.admit(charge("c", amounts=Amounts(1, 2), **limits))

    assert refused.refused_by is Resource.VISUAL_TOKENS
    assert refused.used == Amounts(1, 8)
    assert refused.running == 1
    assert small.refused_by is None
    assert small.used == Amounts(2, 10)


async def test_a_refused_request_is_told_when_it_fits(store, clock):
    began = clock.now
    await store.admit(charge("a", amounts=Amounts(1, 6), visual_tokens_per_minute=10))
    clock.now = began + 20
    await store.admit(charge("b", amounts=Amounts(1, 4), visual_tokens_per_minute=10))
    clock.now = began + 30

    soon = await store.admit(charge("c", amounts=Amounts(1, 5), visual_tokens_per_minute=10))
    later = await store.admit(charge("d", amounts=Amounts(1, 8), visual_tokens_per_minute=10))

    assert soon.retry_after_s == pytest.approx(30.75, abs=0.001)
    assert later.retry_after_s == pytest.approx(50.75, abs=0.001)
    clock.now += soon.retry_after_s - 0.01
    early = await store.admit(charge("c", amounts=Amounts(1, 5), visual_tokens_per_minute=10))
    clock.now += 0.02
    punctual = await store.admit(charge("c", amounts=Amounts(1, 5), visual_tokens_per_minute=10))
    assert early.refused_by is Resource.VISUAL_TOKENS
    assert punctual.refused_by is None


async def test_no_minute_ever_holds_more_than_the_limit(store, clock):
    dice, begun = random.Random(5), []
    for i in range(250):
        clock.now += dice.expovariate(1.0)
        verdict = await store.admit(charge(f"{i}", requests_per_minute=17))
        if verdict.refused_by is None:
            begun.append(clock.now)

    assert len(begun) > 50
    assert max(sum(start <= t < start + 60 for t in begun) for start in begun) == 17


async def test_what_was_not_used_is_given_back(store):
    limits = {"generated_tokens_per_minute": 100}
    first = await store.admit(charge("a", amounts=Amounts(1, 0, 100), **limits))
    full = await store.admit(charge("b", amounts=Amounts(1, 0, 90), **limits))

    await store.settle(Settlement("acme", "a", first.second, Amounts(0, 0, -90)))
    again = await store.admit(charge("b", amounts=Amounts(1, 0, 90), **limits))

    assert full.refused_by is Resource.GENERATED_TOKENS
    assert again.refused_by is None
    assert again.used == Amounts(2, 0, 100)


async def test_what_was_used_beyond_the_charge_counts_too(store):
    first = await store.admit(charge("a", amounts=Amounts(1, 5), visual_tokens_per_minute=10))
    await store.settle(Settlement("acme", "a", first.second, Amounts(0, 4)))

    assert (
        await store.admit(charge("b", amounts=Amounts(1, 2), visual_tokens_per_minute=10))
    ).refused_by is Resource.VISUAL_TOKENS


async def test_a_late_settlement_changes_nothing_but_the_place(store, clock):
    first = await store.admit(charge("a", amounts=Amounts(1, 5), visual_tokens_per_minute=10))
    clock.now += 62
    await store.admit(charge("b", amounts=Amounts(1, 1), visual_tokens_per_minute=10))
    await store.settle(Settlement("acme", "a", first.second, Amounts(0, -5)))

    verdict = await store.admit(charge("c", amounts=Amounts(1, 1), visual_tokens_per_minute=10))

    assert verdict.used == Amounts(2, 2)


async def test_places_are_bounded_and_given_back(store):
    first = await store.admit(charge("a", concurrency=2))
    await store.admit(charge("b", concurrency=2))
    full = await store.admit(charge("c", concurrency=2))
    await store.settle(Settlement("acme", "a", first.second, Amounts()))
    free = await store.admit(charge("c", concurrency=2))

    assert full.refused_by == "concurrency"
    assert full.retry_after_s > 0
    assert full.running == 2
    assert free.refused_by is None


async def test_the_places_of_a_dead_gateway_become_free(store, clock):
    await store.admit(charge("dead", concurrency=2))
    await store.admit(charge("alive", concurrency=2))
    for _ in range(4):
        clock.now += LEASE_S / 3
        await store.renew([Renewal("acme", "alive", None, LEASE_S)])

    verdict = await store.admit(charge("new", concurrency=2))

    assert verdict.refused_by is None
    assert verdict.running == 2
    assert (await store.admit(charge("newer", concurrency=2))).refused_by == "concurrency"


async def test_a_place_that_was_given_away_meanwhile_is_held_again(store, clock):
    await store.admit(charge("slow", concurrency=1))
    clock.now += LEASE_S + 1
    await store.renew([Renewal("acme", "slow", None, LEASE_S)])

    assert (await store.admit(charge("next", concurrency=1))).refused_by == "concurrency"


async def test_tenants_do_not_touch_each_other(store):
    await store.admit(charge("a", tenant="acme", requests_per_minute=1, concurrency=1))

    other = await store.admit(charge("a", tenant="umbrella", requests_per_minute=1, concurrency=1))

    assert other.refused_by is None
    assert other.used.requests == 1


@pytest.mark.parametrize("limits", [{"requests_per_minute": 0}, {"concurrency": 0}])
async def test_a_limit_of_nothing_lets_nobody_in(store, limits):
    assert (await store.admit(charge(**limits))).refused_by is not None


async def test_several_gateways_together_are_exact(make_store):
    gateways = [make_store() for _ in range(4)]

    verdicts = await asyncio.gather(
        *(
            gateways[i % 4].admit(charge(f"{i}", requests_per_minute=37, concurrency=1000))
            for i in range(200)
        )
    )

    assert sum(v.refused_by is None for v in verdicts) == 37
    assert sorted(v.used.requests for v in verdicts if v.refused_by is None) == list(range(1, 38))
    for gateway in gateways:
        await gateway.close()


async def test_nothing_is_left_of_the_past(store, clock):
    for i in range(300):
        clock.now += 1
        await store.admit(charge(f"{i}", amounts=Amounts(1, 1, 1), requests_per_minute=10**6))

    verdict = await store.admit(charge("last", amounts=Amounts(1, 1, 1)))

    assert verdict.used == Amounts(62, 62, 62)
    assert verdict.running == 16


async def test_local_state_goes_on_from_what_was_counted_elsewhere(clock):
    local = SqliteStore(None, clock)
    await local.admit(charge("a", amounts=Amounts(1, 5)))
    await local.adopt("acme", int(clock.now) - 10, Amounts(4, 3, 7))
    await local.adopt("acme", int(clock.now) - 62, Amounts(100, 100, 100))

    verdict = await local.admit(charge("b", amounts=Amounts(1), requests_per_minute=5))

    assert verdict.used == Amounts(5, 5, 7)
    clock.now += 52
    assert (await local.admit(charge("c", amounts=Amounts()))).used == Amounts(2, 5)
    await local.close()
