"""A request's references go when it goes, also those that were on their way."""

import asyncio
import threading

import numpy as np
import pytest

from gateway import stages
from gateway.admission.times import StageTimes
from gateway.stages import StageCalls


class Store:
    """Puts as slowly as a test wants."""

    def __init__(self):
        self.may_put = threading.Event()
        self.done = threading.Event()

    def put(self, _pixels):
        assert self.may_put.wait(10)
        self.done.set()
        return "reference"


@pytest.fixture
def store(monkeypatch):
    made = Store()
    monkeypatch.setattr(stages.ray, "put", made.put)
    return made


def calls():
    return StageCalls(handles=None, telemetry=None, times=StageTimes(), timeout_s=1.0)


async def test_what_is_put_belongs_to_the_request(store):
    store.may_put.set()
    with calls() as owner:
        references = await owner.put_pixels(np.zeros((1, 1, 3), np.uint8))
        assert references == ["reference"]
    assert references == []


async def test_what_is_put_after_the_request_was_cancelled_belongs_to_nobody(store):
    owned = []

    async def request():
        with calls() as owner:
            putting = asyncio.ensure_future(owner.put_pixels(np.zeros((1, 1, 3), np.uint8)))
            await asyncio.sleep(0)
            owned.extend(owner._owned)
            await putting

    task = asyncio.create_task(request())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store.may_put.set()
    assert await asyncio.to_thread(store.done.wait, 10)
    await asyncio.sleep(0.05)
    assert owned == [[]]
