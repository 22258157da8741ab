"""How does an answer reach the client token by token, and what if the client leaves?"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.edge import Edge
from gateway.events import Delta, Event, Finished, Started
from gateway.rest.answers import (
    Json,
    chunk_object,
    finished_object,
    head_object,
    started_object,
    usage_chunk_object,
)
from gateway.rest.errors import error_body, error_response
from qzoom.contracts.request import AnswerRequest
from qzoom.errors import Cancelled

Result = TypeVar("Result")
CLEANUP_TIMEOUT_S = 10.0
SLOW_READER_GRACE_S = 2.0
DONE = b"data: [DONE]\n\n"


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work in a task of its own, which ends when the client goes away.

    Args:
        receive: Of a request whose body has been read.
        work: What the client waits for.

    Raises:
        Cancelled: If the client went away first.
    """
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Cancelled("the client went away")
    finally:
        working.cancel()
        watching.cancel()
        # Until the flow has let go of everything that it holds.
        done, _ = await asyncio.wait({working, watching}, timeout=CLEANUP_TIMEOUT_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # Seen, so that asyncio does not report it as forgotten.


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events of one answer.

    The status line waits for the flow's first event, so that a request which fails before it
    gets an ordinary error. Later errors come as an event, and then there is no `[DONE]`.

    Args:
        edge: Runs the request.
        request: What to answer.
        include_usage: Whether a last chunk carries the usage.
    """

    media_type = "text/event-stream"

    def __init__(self, edge: Edge, request: AnswerRequest, *, include_usage: bool) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._edge = edge
        self._request = request
        self._head: Json = {}
        self._include_usage = include_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer until it ends, fails, or the client goes away."""
        remaining = self._request.deadline - time.time() + SLOW_READER_GRACE_S
        try:
            # The flow keeps the deadline; this is for a client that does not read.
            async with asyncio.timeout(remaining):
                await until_disconnect(receive, self._send_all(scope, receive, send))
        except (Cancelled, TimeoutError):
            return

    async def _send_all(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._edge.run(self._request)) as events:
            try:
                first = await anext(events)
            except Exception as error:
                known = self._edge.explain(error, self._request.request_id)
                await error_response(known, self._request.envelope.headers)(scope, receive, send)
                return
            self._head = head_object(self._request)
            self.headers.update(self._request.envelope.headers)
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            async with aclosing(self._frames(first, events)) as frames:
                async for data in frames:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _frames(
        self, first: Event, events: AsyncGenerator[Event, None]
    ) -> AsyncGenerator[bytes, None]:
        try:
            for chunk in self._chunks(first):
                yield frame(chunk)
            async for event in events:
                for chunk in self._chunks(event):
                    yield frame(chunk)
        except Exception as error:
            known = self._edge.explain(error, self._request.request_id)
            yield frame(error_body(known))
            return
        yield DONE

    def _chunks(self, event: Event) -> list[Json]:
        match event:
            case Started():
                delta = {"role": "assistant", "content": ""}
                return [chunk_object(self._head, delta) | {"qzoom": started_object(event)}]
            case Delta():
                return [chunk_object(self._head, {"content": event.text})] if event.text else []
            case Finished():
                last = chunk_object(self._head, {}, event.finish_reason)
                chunks = [last | {"qzoom": finished_object(event)}]
                if self._include_usage:
                    chunks.append(usage_chunk_object(self._head, event))
                return chunks


def frame(data: Json) -> bytes:
    """Write one server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False, allow_nan=False)}\n\n".encode()
