"""Both stores answer any sequence of questions alike."""

import random
from dataclasses import astuple

import pytest

from qzoom.store.limits import Amounts, TenantLimits
from qzoom.store.messages import Charge, Claim, Keep, Renewal, Settlement
from qzoom.store.redis import RedisStore
from qzoom.store.sqlite import SqliteStore

NUM_STEPS = 250
TENANTS, KEYS, OWNERS = ("a", "b"), ("k1", "k2", "k3", "k4"), ("one", "two", "three")
MILLISECOND = 0.0015
"""Redis' scripts tell times in milliseconds."""


def some_limit(dice, most):
    return dice.choice([None, dice.randint(0, most)])


def some_charge(dice, number):
    limits = TenantLimits(
        some_limit(dice, 12), some_limit(dice, 300), some_limit(dice, 300), some_limit(dice, 6)
    )
    amounts = Amounts(1, dice.randint(0, 60), dice.randint(0, 60))
    return Charge(dice.choice(TENANTS), f"lease {number}", amounts, limits, 15.0)


def some_claim(dice):
    return Claim(
        dice.choice(TENANTS),
        dice.choice(KEYS),
        dice.choice(["f", "f", "f", "g"]),
        dice.choice(OWNERS),
        15.0,
    )


def some_step(dice, number, running):
    """Draw a question: a function of the store, the same for both."""
    kind = dice.choice(["admit"] * 6 + ["settle", "renew", "claim", "claim", "keep", "release"])
    if kind == "admit":
        charge = some_charge(dice, number)
        return lambda store: store.admit(charge), charge
    if kind == "settle" and running:
        charge, second = running.pop(dice.randrange(len(running)))
        correction = Amounts(0, -dice.randint(0, charge.amounts.visual_tokens), dice.randint(0, 9))
        settlement = Settlement(charge.tenant, charge.lease, second, correction)
        return lambda store: store.settle(settlement), None
    claim = some_claim(dice)
    if kind == "renew":
        lease = running[-1][0].lease if running else None
        tenant = running[-1][0].tenant if running else claim.tenant
        renewals = [Renewal(tenant, lease, None, 15.0), Renewal(claim.tenant, None, claim, 15.0)]
        return lambda store: store.renew(renewals), None
    if kind == "keep":
        keep = Keep(claim, bytes(dice.randint(1, 90)), 100.0, 150, 220)
        return lambda store: store.keep(keep), None
    if kind == "release":
        return lambda store: store.release(claim), None
    return lambda store: store.claim(claim), None


def flat(answer):
    """Every number and word of an answer, in order."""
    if answer is None:
        return []
    values = []
    for value in astuple(answer):
        values += value if isinstance(value, tuple) else [value]
    return values


@pytest.mark.parametrize("seed", range(12))
async def test_two_stores_that_are_asked_the_same_answer_the_same(redis_server, clock, seed):
    with redis_server.client() as client:
        client.flushall()
    one, other = SqliteStore(None, clock), RedisStore(redis_server.url, clock=clock)
    dice, running = random.Random(seed), []
    for number in range(NUM_STEPS):
        clock.now += dice.choice([0.0, 0.001, dice.expovariate(0.5), dice.expovariate(0.05)])
        step, charge = some_step(dice, number, running)
        answers = [await step(store) for store in (one, other)]
        mine, theirs = map(flat, answers)
        assert len(mine) == len(theirs)
        for left, right in zip(mine, theirs, strict=True):
            if isinstance(left, float):
                assert left == pytest.approx(right, abs=MILLISECOND), (number, answers)
            else:
                assert left == right, (number, answers)
        if charge is not None and answers[0].refused_by is None:
            running.append((charge, answers[0].second))
    await one.close()
    await other.close()
