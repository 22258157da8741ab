"""A stream ends with its deadline even if nobody reads it, and lets go of the flow."""

import asyncio
import time

import pytest

from gateway.edge import Edge
from gateway.events import Budgets, Delta, Started, VisualTokens
from gateway.rest import streaming
from gateway.rest.streaming import EventStream, until_disconnect
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.request import AnswerRequest
from qzoom.contracts.sampling import Sampling
from qzoom.errors import Cancelled
from qzoom.telemetry.logs import EventLog


class EndlessFlow:
    """Yields tokens until it is closed."""

    def __init__(self) -> None:
        self.closed = False

    async def run(self, _request):
        try:
            yield Started("direct", None, None, (), VisualTokens(1, 0, 0), "0" * 32, Budgets(4, 4))
            while True:
                await asyncio.sleep(0)
                yield Delta("x", 1)
        finally:
            self.closed = True


def stream(flow, seconds: float) -> EventStream:
    request = AnswerRequest(
        request_id="r",
        model="m",
        conversation=single_question("?"),
        images=(b"",),
        image_params=("image",),
        sampling=Sampling(),
        options=Options(),
        stream=True,
        deadline=time.time() + seconds,
        trace={},
    )
    edge = Edge(flow, ("m",), EventLog("gateway"))
    return EventStream(edge, request, include_usage=False)


async def forever():
    await asyncio.Event().wait()


async def test_a_client_that_does_not_read_is_left_after_the_deadline():
    flow = EndlessFlow()
    start = time.monotonic()

    async def stuck_send(message):
        if message["type"] == "http.response.body":
            await forever()

    await stream(flow, 0.1)({"type": "http"}, forever, stuck_send)
    assert flow.closed
    assert time.monotonic() - start < 0.1 + streaming.SLOW_READER_GRACE_S + 2


async def test_a_client_that_leaves_closes_the_flow():
    flow, gone = EndlessFlow(), asyncio.Event()
    sent = []

    async def send(message):
        sent.append(message)
        if len(sent) > 10:
            gone.set()
        await asyncio.sleep(0)

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    await stream(flow, 60)({"type": "http"}, receive, send)
    assert flow.closed
    assert b"[DONE]" not in b"".join(message.get("body", b"") for message in sent)


async def test_a_stream_whose_handler_is_cancelled_closes_the_flow():
    flow = EndlessFlow()

    async def send(_message):
        await asyncio.sleep(0)

    task = asyncio.create_task(stream(flow, 60)({"type": "http"}, forever, send))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert flow.closed


async def test_work_that_is_done_wins_over_a_client_that_leaves_later():
    async def work():
        return 5

    assert await until_disconnect(forever, work()) == 5


async def test_a_client_that_is_gone_cancels_the_work():
    cancelled = asyncio.Event()

    async def work():
        try:
            await forever()
        finally:
            cancelled.set()

    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(Cancelled):
        await until_disconnect(receive, work())
    assert cancelled.is_set()
