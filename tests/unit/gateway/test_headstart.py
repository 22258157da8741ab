"""A call that begins before it is known whether its result is wanted."""

import asyncio

import pytest

from gateway.headstart import HeadStart


class Call:
    """Counts what became of its runs; fails as often as it is told."""

    def __init__(self, failures=0, takes_s=0.0):
        self.failures, self.takes_s = failures, takes_s
        self.begun = self.ended = self.cancelled = 0

    async def __call__(self):
        self.begun += 1
        try:
            await asyncio.sleep(self.takes_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ended += 1
        if self.ended <= self.failures:
            raise ValueError("no result")
        return self.ended


async def test_an_early_call_runs_beside_and_is_not_made_twice():
    call = Call()
    async with HeadStart(call, is_early=True) as start:
        await asyncio.sleep(0.01)
        assert call.ended == 1
        assert await start.result() == 1
    assert (call.begun, call.cancelled) == (1, 0)


async def test_a_patient_call_begins_when_it_is_asked_for():
    call = Call()
    async with HeadStart(call, is_early=False) as start:
        await asyncio.sleep(0.01)
        assert call.begun == 0
        assert await start.result() == 1
    async with HeadStart(call, is_early=False):
        pass
    assert call.begun == 1


async def test_what_nobody_asked_for_is_cancelled():
    call = Call(takes_s=60.0)
    async with HeadStart(call, is_early=True):
        await asyncio.sleep(0.01)
    assert (call.begun, call.ended, call.cancelled) == (1, 0, 1)


async def test_a_failure_that_nobody_asked_for_is_nobody_s():
    async with HeadStart(Call(failures=1), is_early=True):
        await asyncio.sleep(0.01)


async def test_after_a_failure_the_call_is_made_anew():
    call = Call(failures=1)
    async with HeadStart(call, is_early=True) as start:
        with pytest.raises(ValueError, match="no result"):
            await start.result()
        assert await start.result() == 2


async def test_whoever_goes_away_cancels_the_call():
    call = Call(takes_s=60.0)

    async def wait():
        async with HeadStart(call, is_early=True) as start:
            await start.result()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert call.cancelled == 1
