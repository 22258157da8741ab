"""Batches fill by themselves, keep their budget, and give each item its own fate."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from qzoom.errors import DeadlineExceeded, InvalidRequest, Overloaded, Unavailable
from qzoom.serving.abandon import StopBetweenLayers
from qzoom.serving.batcher import Batcher, peers_of

SOON_S = 5.0


class Doubler:
    """A computation that can be held, and refuses negative numbers."""

    def __init__(self):
        self.batches = []
        self.may_run = threading.Event()
        self.may_run.set()

    def __call__(self, items):
        assert self.may_run.wait(SOON_S)
        self.batches.append(list(items))
        if min(items) < 0:
            raise InvalidRequest("negative")
        return [2 * item for item in items]


@pytest.fixture
def doubler():
    return Doubler()


@pytest.fixture
def batcher(doubler):
    with ThreadPoolExecutor(1) as executor:
        made = Batcher("test", doubler, executor, max_tokens=10, max_waiting=8)
        yield made
        made.close()
        doubler.may_run.set()


def soon():
    return time.time() + SOON_S


async def test_each_learns_who_else_was_in_its_batch(batcher, doubler):
    doubler.may_run.clear()
    first = asyncio.create_task(batcher.submit(0, 1, soon(), trace="first"))
    await asyncio.sleep(0.05)
    tasks = [
        asyncio.create_task(batcher.submit(item, 3, soon(), trace=trace))
        for item, trace in ((1, "a"), (2, ""), (3, "c"))
    ]
    await asyncio.sleep(0.05)
    doubler.may_run.set()

    assert (await first)[1].peers == ()
    peers = [(await task)[1].peers for task in tasks]
    assert peers == [("c",), ("c", "a"), ("a",)]


def test_the_peers_of_a_large_batch_are_some_of_them():
    traces = [f"{i}" for i in range(20)]

    assert peers_of(18, traces) == ("19", "0", "1", "2", "3", "4", "5", "6")


async def held(batcher, doubler, items):
    """Submit items while a first one occupies the thread; return the tasks, the first included."""
    doubler.may_run.clear()
    tasks = [asyncio.create_task(batcher.submit(0, 1, soon()))]
    await asyncio.sleep(0.05)
    tasks += [asyncio.create_task(batcher.submit(item, tokens, soon())) for item, tokens in items]
    await asyncio.sleep(0.05)
    return tasks


async def test_a_lone_item_does_not_wait_for_company(batcher, doubler):
    result, timing = await batcher.submit(21, 1, soon())
    assert result == 42
    assert timing.batch_size == 1
    assert doubler.batches == [[21]]


async def test_what_arrives_meanwhile_runs_together_within_the_budget(batcher, doubler):
    tasks = await held(batcher, doubler, [(1, 4), (2, 4), (3, 4)])
    doubler.may_run.set()
    results = await asyncio.gather(*tasks)
    assert [value for value, _ in results] == [0, 2, 4, 6]
    assert doubler.batches == [[0], [1, 2], [3]]
    assert [timing.batch_size for _, timing in results] == [1, 2, 2, 1]
    assert results[1][1].queue_s > 0.04


async def test_an_item_beyond_the_budget_runs_alone(batcher, doubler):
    tasks = await held(batcher, doubler, [(1, 1), (2, 99), (3, 1)])
    doubler.may_run.set()
    await asyncio.gather(*tasks)
    assert doubler.batches == [[0], [1], [2], [3]]


async def test_one_bad_item_does_not_spoil_the_others(batcher, doubler):
    tasks = await held(batcher, doubler, [(1, 1), (-1, 1), (2, 1)])
    doubler.may_run.set()
    _, one, bad, two = await asyncio.gather(*tasks, return_exceptions=True)
    assert (one[0], two[0]) == (2, 4)
    assert isinstance(bad, InvalidRequest)


async def test_more_than_may_wait_are_refused(batcher, doubler):
    tasks = await held(batcher, doubler, [(i, 1) for i in range(8)])
    with pytest.raises(Overloaded, match="8 requests wait, limit 8") as raised:
        await batcher.submit(9, 1, soon())
    assert raised.value.retry_after_s
    doubler.may_run.set()
    await asyncio.gather(*tasks)


async def test_a_deadline_frees_the_caller_and_the_place(batcher, doubler):
    tasks = await held(batcher, doubler, [])
    with pytest.raises(DeadlineExceeded):
        await batcher.submit(5, 1, time.time() + 0.05)
    doubler.may_run.set()
    await asyncio.gather(*tasks)
    await batcher.submit(6, 1, soon())
    assert doubler.batches == [[0], [6]]


async def test_a_cancelled_item_is_not_computed(batcher, doubler):
    tasks = await held(batcher, doubler, [(1, 1), (2, 1)])
    tasks[1].cancel()
    await asyncio.sleep(0)
    doubler.may_run.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    assert doubler.batches == [[0], [2]]


async def test_closing_fails_what_waits(batcher, doubler):
    tasks = await held(batcher, doubler, [(1, 1)])
    batcher.close()
    doubler.may_run.set()
    with pytest.raises(Unavailable):
        await tasks[1]
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Tower(nn.Module):
    """Three layers, the first of which takes as long as the test wants."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Identity() for _ in range(3))
        self.ran = []
        self.may_go_on = threading.Event()
        self.has_begun = threading.Event()

    def forward(self, items):
        for i, block in enumerate(self.blocks):
            block(torch.zeros(1))
            self.ran.append(i)
            if i == 0:
                self.has_begun.set()
                assert self.may_go_on.wait(SOON_S)
        return items


@pytest.fixture
def tower():
    return Tower()


@pytest.fixture
def tower_batcher(tower):
    with ThreadPoolExecutor(1) as executor:
        made = Batcher(
            "test",
            tower,
            executor,
            max_tokens=10,
            max_waiting=8,
            stop=StopBetweenLayers(tower),
            max_compute_s=0.05,
        )
        yield made
        made.close()
        tower.may_go_on.set()


async def begun(tower):
    assert await asyncio.to_thread(tower.has_begun.wait, SOON_S)


async def test_a_batch_that_all_have_left_stops_between_two_layers(tower_batcher, tower):
    task = asyncio.create_task(tower_batcher.submit(1, 1, soon()))
    await begun(tower)
    task.cancel()
    await asyncio.sleep(0.05)
    tower.may_go_on.set()
    assert (await tower_batcher.submit(2, 1, soon()))[0] == 2
    assert tower.ran == [0, 0, 1, 2]


async def test_a_batch_goes_on_while_anybody_waits(tower_batcher, tower):
    occupying = asyncio.create_task(tower_batcher.submit(0, 1, soon()))
    await begun(tower)
    leaves, stays = (asyncio.create_task(tower_batcher.submit(item, 1, soon())) for item in (1, 2))
    await asyncio.sleep(0.05)
    tower.has_begun.clear()
    tower.may_go_on.set()
    await begun(tower)
    leaves.cancel()
    assert (await stays)[0] == 2
    assert (await occupying)[0] == 0
    assert tower.ran == [0, 1, 2] * 2


async def test_a_deadline_stops_a_batch_too(tower_batcher, tower):
    with pytest.raises(DeadlineExceeded):
        await tower_batcher.submit(1, 1, time.time() + 0.1)
    tower.may_go_on.set()
    assert (await tower_batcher.submit(2, 1, soon()))[0] == 2
    assert tower.ran == [0, 0, 1, 2]


async def test_a_computation_that_hangs_fails_the_health_check(tower_batcher, tower):
    tower_batcher.check_health()
    task = asyncio.create_task(tower_batcher.submit(1, 1, soon()))
    await begun(tower)
    await asyncio.sleep(0.1)
    with pytest.raises(Unavailable, match=r"takes more than 0\.05 s"):
        tower_batcher.check_health()
    tower.may_go_on.set()
    await task
    tower_batcher.check_health()
