"""A request's references go when it goes, also those that were on their way."""

import asyncio
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from gateway import stages
from gateway.admission.times import StageTimes
from gateway.memory import PictureMemory
from gateway.stages import StageCalls
from qzoom.telemetry.gateway import GatewayTelemetry


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


@contextmanager
def calls():
    with (
        GatewayTelemetry().request("id", {}, "any") as telemetry,
        StageCalls(None, telemetry, StageTimes(), 1.0, PictureMemory(0)) as owner,
    ):
        yield owner


async def test_what_is_put_belongs_to_the_request(store):
    store.may_put.set()
    with calls() as owner:
        source = owner.source(np.zeros((1, 1, 3), np.uint8), "digest")
        await owner._store(source)
        assert source.stored == ["reference"]
    assert source.stored == []


async def test_what_a_request_holds_is_counted_until_it_ends():
    telemetry = GatewayTelemetry()

    def held():
        return telemetry.metrics.snapshot().samples["qzoom_state_references", ()]

    with (
        telemetry.request("id", {}, "any") as told,
        StageCalls(None, told, StageTimes(), 1.0, PictureMemory(0)) as owner,
    ):
        owner._own(["coarse", "suffix"])
        owner._own(["crop"])
        assert held() == 3
    assert held() == 0


async def test_what_is_put_after_the_request_was_cancelled_belongs_to_nobody(store):
    sources = []

    async def request():
        with calls() as owner:
            sources.append(owner.source(np.zeros((1, 1, 3), np.uint8), "digest"))
            await owner._store(sources[0])

    task = asyncio.create_task(request())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store.may_put.set()
    assert await asyncio.to_thread(store.done.wait, 10)
    await asyncio.sleep(0.05)
    assert sources[0].stored == []
