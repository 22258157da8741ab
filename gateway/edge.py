"""What do REST and gRPC have in common? Everything but the shape of their messages."""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from gateway.access.callers import ANYBODY, Caller
from gateway.events import AnswerFlow, Delta, Event, Finished, Started
from gateway.requests import Arrival, build_request, check_request_id, read_body
from qzoom.contracts.request import AnswerRequest, Envelope, Limits
from qzoom.contracts.tenancy import DEFAULT_TENANT
from qzoom.errors import DeadlineExceeded, InvalidRequest, QZoomError
from qzoom.telemetry.logs import EventLog

DEADLINE_GRACE_S = 0.5
"""The flow ends at the deadline by itself, and knows better why; this is for when it hangs."""

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,254}")
_TRACE_HEADERS = ("traceparent", "tracestate")

Identify = Callable[[Mapping[str, str]], Awaitable[Caller]]
"""Finds out from headers or metadata who asks; raises `QZoomError`."""


async def let_everybody_in(_headers: Mapping[str, str]) -> Caller:
    """Ask nobody who they are."""
    return ANYBODY


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer: the events of the flow, the text put together."""

    started: Started
    text: str
    finished: Finished


@dataclass(slots=True)
class Edge:
    """Reads requests, runs them through the flow, and explains failures.

    Attributes:
        flow: Answers requests.
        models: Names of the models that are served.
        log: Where defects of ours are written.
        limits: What one request may ask for; may change between two requests.
        identify: Finds out who asks.
        refused_early: Told how many requests a proxy refused in the name of this gateway.
        local_clients_only: Whether gRPC clients of other machines are refused; HTTP listens on
            one address only, gRPC behind Serve on all of them.
        started: Unix time in seconds at which the models became available.
    """

    flow: AnswerFlow
    models: Sequence[str]
    log: EventLog
    limits: Limits = field(default_factory=Limits)
    identify: Identify = let_everybody_in
    refused_early: Callable[[int], None] = lambda _count: None
    local_clients_only: bool = False
    started: float = field(default_factory=time.time)

    def read(self, fields: Mapping[str, Any], arrival: Arrival) -> AnswerRequest:
        """Check a request; see `build_request` for what is raised."""
        return build_request(read_body(fields), arrival, self.limits, self.models)

    async def run(self, request: AnswerRequest) -> AsyncGenerator[Event, None]:
        """Yield the events of the flow; closing this closes the flow.

        Raises:
            QZoomError: From the flow, or `DeadlineExceeded` if it runs past its deadline.
        """
        async with aclosing(self.flow.run(request)) as events:
            while True:
                remaining = request.deadline - time.time() + DEADLINE_GRACE_S
                try:
                    # Around one step only: a timeout must not be open across a yield.
                    async with asyncio.timeout(remaining) as timeout:
                        event = await anext(events)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    if not timeout.expired():
                        raise
                    raise DeadlineExceeded("the answer was not complete at its deadline") from None
                yield event

    async def answer(self, request: AnswerRequest) -> Answer:
        """Run a request to its end.

        Raises:
            QZoomError: As `run`.
        """
        started: Started | None = None
        finished: Finished | None = None
        texts: list[str] = []
        async with aclosing(self.run(request)) as events:
            async for event in events:
                match event:
                    case Started():
                        started = event
                    case Delta():
                        texts.append(event.text)
                    case Finished():
                        finished = event
        assert started is not None, "the flow has not started"
        assert finished is not None, "the flow has not finished"
        return Answer(started, "".join(texts), finished)

    def explain(self, error: Exception, request_id: str) -> QZoomError:
        """Turn what was raised into what the caller may see; writes defects to the log."""
        if isinstance(error, QZoomError):
            return error
        self.log.error(request_id, "", error)
        return QZoomError(f"internal error, please report request {request_id}")


def arrival(headers: Mapping[str, str], tenant: str = DEFAULT_TENANT) -> Arrival:
    """Note when a request came, whose it is, and under which names.

    Args:
        headers: HTTP headers or gRPC metadata, lower-case names.
        tenant: Who asks.

    Raises:
        InvalidRequest: If the caller's request id is not fit for logs, or its Idempotency-Key is
            too long or not plain.
    """
    request_id = headers.get("x-request-id") or uuid.uuid4().hex
    check_request_id(request_id)
    key = headers.get("idempotency-key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequest(
            "idempotency-key must be 1 to 255 printable ASCII characters", param="idempotency-key"
        )
    trace = {name: headers[name] for name in _TRACE_HEADERS if name in headers}
    now = time.time()
    envelope = Envelope(request_id=request_id, received=now)
    return Arrival(request_id, now, trace, tenant, idempotency_key=key, envelope=envelope)
