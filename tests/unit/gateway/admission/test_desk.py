"""Bounds are exact, the queue is bounded and fair, and nothing stays behind."""

import asyncio
import itertools
import random
import time

import pytest

from gateway.admission import desk as desk_module
from gateway.admission.bounds import AdmissionBounds
from gateway.admission.brownout import BrownoutBounds
from gateway.admission.cost import Cost
from gateway.admission.desk import Desk, share_of
from gateway.admission.tickets import Ask, Grant, Refusal

TICKETS = itertools.count()
UNIT = Cost(visual_tokens=10, positions=100, kv_bytes=1000, store_bytes=1000)
SOON_S = 60.0
BOUNDS = AdmissionBounds(requests=2, max_waiting=3, brownout=BrownoutBounds(steps=0))


def ask(tenant="a", cost=UNIT, gateway="g", in_s=SOON_S, **fields):
    return Ask(f"t{next(TICKETS)}", gateway, tenant, cost, time.time() + in_s, **fields)


async def admit(desk, *asks):
    """Ask one after the other; return the tasks."""
    tasks = []
    for one in asks:
        tasks.append(asyncio.create_task(desk.admit(one)))
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def fill(desk, count=2, tenant="filler"):
    asks = [ask(tenant) for _ in range(count)]
    for task in await admit(desk, *asks):
        assert isinstance(await task, Grant)
    return asks


async def test_the_bound_on_requests_is_exact():
    desk = Desk(BOUNDS)
    held = await fill(desk)
    (third,) = await admit(desk, ask())
    assert not third.done()
    assert (desk.state.in_work, desk.state.waiting) == (2, 1)
    desk.release(held[0].ticket)
    assert isinstance(await third, Grant)
    assert (desk.state.in_work, desk.state.waiting) == (2, 0)


@pytest.mark.parametrize("name", ["visual_tokens", "kv_bytes", "store_bytes"])
async def test_every_kind_of_work_has_its_bound(name):
    limit = 2 * getattr(UNIT, name) + 1
    desk = Desk(AdmissionBounds(requests=100, brownout=BrownoutBounds(steps=0), **{name: limit}))
    await fill(desk, 2)
    (third,) = await admit(desk, ask())
    assert not third.done()
    third.cancel()


async def test_a_request_above_a_bound_works_alone():
    desk = Desk(AdmissionBounds(visual_tokens=5))
    (first,) = await admit(desk, giant := ask())
    assert isinstance(await first, Grant)
    (second,) = await admit(desk, ask())
    assert not second.done()
    desk.release(giant.ticket)
    assert isinstance(await second, Grant)


async def test_the_queue_is_bounded_and_says_when_to_come_back():
    desk = Desk(BOUNDS)
    await fill(desk)
    tasks = await admit(desk, *(ask() for _ in range(4)))
    refused = await tasks[-1]
    assert isinstance(refused, Refusal)
    assert refused.reason == "queue_full"
    assert "at most 3" in refused.message
    assert [task.done() for task in tasks] == [False, False, False, True]


async def test_a_full_queue_takes_a_place_from_the_tenant_that_has_most():
    desk = Desk(BOUNDS)
    held = await fill(desk)
    crowd = await admit(desk, *(ask("crowd") for _ in range(3)))
    (lone,) = await admit(desk, ask("lone"))
    displaced = await crowd[2]
    assert isinstance(displaced, Refusal)
    assert displaced.reason == "displaced"
    desk.release(held[0].ticket)
    desk.release(held[1].ticket)
    assert isinstance(await lone, Grant)
    assert isinstance(await crowd[0], Grant)


async def test_a_tenant_may_have_its_share_only():
    desk = Desk(AdmissionBounds(requests=4, tenant_share=0.5, brownout=BrownoutBounds(steps=0)))
    crowd = await admit(desk, *(ask("crowd") for _ in range(4)))
    assert [task.done() for task in crowd] == [True, True, False, False]
    (lone,) = await admit(desk, ask("lone"))
    assert isinstance(await lone, Grant)


async def test_a_deadline_that_cannot_be_met_is_refused_at_once():
    desk = Desk(BOUNDS)
    refused = await desk.admit(ask(in_s=0.5, needs_s=2.0))
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.retry_after_s) == ("deadline", 0.0)


async def test_a_queue_that_is_too_long_for_the_deadline_is_refused_at_once():
    now = [0.0]
    desk = Desk(BOUNDS, lambda: now[0])
    held = await fill(desk, 1)
    now[0] = 10.0
    desk.release(held[0].ticket)  # Requests take 10 s here.
    await fill(desk)
    refused = await desk.admit(ask(in_s=4.0))
    assert isinstance(refused, Refusal)
    assert refused.reason == "deadline"
    assert refused.retry_after_s == pytest.approx(5.0, abs=0.1)


async def test_what_waits_too_long_is_dropped_before_it_costs_anything():
    desk = Desk(BOUNDS)
    await fill(desk)
    refused = await desk.admit(ask(in_s=0.2, needs_s=0.15))
    assert isinstance(refused, Refusal)
    assert refused.reason == "expired"
    assert desk.state.waiting == 0


async def test_who_leaves_the_queue_leaves_nothing():
    desk = Desk(BOUNDS)
    await fill(desk)
    (waiting,) = await admit(desk, one := ask())
    waiting.cancel()
    desk.release(one.ticket)
    desk.release(one.ticket)
    assert (desk.state.in_work, desk.state.waiting) == (2, 0)


async def test_draining_refuses_the_new_and_finishes_the_old():
    desk = Desk(BOUNDS)
    held = await fill(desk)
    (waiting,) = await admit(desk, ask())
    desk.drain()
    refused = await desk.admit(ask())
    assert isinstance(refused, Refusal)
    assert refused.reason == "draining"
    desk.release(held[0].ticket)
    assert isinstance(await waiting, Grant)


async def test_wider_bounds_count_at_once():
    desk = Desk(BOUNDS)
    await fill(desk)
    (waiting,) = await admit(desk, ask())
    desk.configure(AdmissionBounds(requests=3))
    assert isinstance(await waiting, Grant)


async def test_a_desk_that_starts_anew_learns_what_is_in_work():
    desk = Desk(BOUNDS)
    held = {one.ticket: one for one in (ask(), ask())}
    desk.report("g", held)
    (waiting,) = await admit(desk, ask())
    assert not waiting.done()
    for ticket in held:
        desk.release(ticket)
    assert isinstance(await waiting, Grant)


async def test_what_a_gateway_lost_or_took_along_is_free_again():
    now = [0.0]
    desk = Desk(AdmissionBounds(requests=3, max_waiting=3), lambda: now[0])
    await fill(desk, 2)
    (held,) = await admit(desk, ask(gateway="dead"))
    (queued,) = await admit(desk, ask(gateway="dead"))
    (waiting,) = await admit(desk, kept := ask())
    assert isinstance(await held, Grant)
    assert desk.report("g", {}).in_work == 3, "the replies may still be on their way"
    now[0] = desk_module.UNCLAIMED_S + 1.0
    assert desk.report("g", {}).in_work == 3, "the next two have come in"
    assert isinstance(await queued, Grant)
    assert isinstance(await waiting, Grant)
    now[0] = 2 * desk_module.STALE_S
    assert desk.report("g", {kept.ticket: kept}).in_work == 1


async def test_under_any_order_of_events_bounds_hold_and_all_are_accounted_for():
    chance = random.Random(7)
    desk = Desk(AdmissionBounds(requests=5, visual_tokens=200, max_waiting=7))
    counts = {"asked": 0, "granted": 0, "refused": 0, "left": 0}

    async def client():
        for _ in range(20):
            cost = Cost(chance.randint(1, 90), chance.randint(1, 2000), 10, 10)
            one = ask(chance.choice("abc"), cost)
            counts["asked"] += 1
            task = asyncio.create_task(desk.admit(one))
            if chance.random() < 0.2:
                await asyncio.sleep(chance.random() / 500)
                if not task.done():
                    task.cancel()
                    counts["left"] += 1
                    desk.release(one.ticket)
                    continue
            reply = await task
            if isinstance(reply, Refusal):
                counts["refused"] += 1
            else:
                counts["granted"] += 1
                assert desk.state.in_work <= 5
                await asyncio.sleep(chance.random() / 500)
            desk.release(one.ticket)

    await asyncio.gather(*(client() for _ in range(40)))
    assert counts["asked"] == 800 == counts["granted"] + counts["refused"] + counts["left"]
    assert min(counts.values()) > 0
    assert (desk.state.in_work, desk.state.waiting) == (0, 0)
    assert desk.pressure == 0.0


def test_a_gateway_alone_takes_its_part():
    part = share_of(AdmissionBounds(requests=9, max_waiting=1), 2)
    assert (part.requests, part.max_waiting) == (4, 1)
