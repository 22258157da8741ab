"""How does a request enter? Through the desk, with a span, counts, and errors for the client."""

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from gateway.admission.cost import Cost
from gateway.admission.tickets import Ask, DeskState, Grant, Refusal
from gateway.admission.times import StageTimes
from qzoom.contracts.request import AnswerRequest
from qzoom.errors import DeadlineExceeded, Overloaded, QZoomError, Unavailable
from qzoom.telemetry.gateway import GatewayTelemetry, RequestTelemetry
from qzoom.telemetry.names import Attribute, Metric, Span

DRAINING_RETRY_S = 5.0
"""What a client is told to wait while the system stops: another one may stand in by then."""


class DeskAccess(Protocol):
    """The desk itself, or the way to the one that all gateways share."""

    @property
    def state(self) -> DeskState:
        """What the desk saw last."""
        ...

    async def admit(self, ask: Ask) -> Grant | Refusal:
        """Let a request in, now or in its turn, or turn it away."""
        ...

    def release(self, ticket: str) -> None:
        """Give up a ticket."""
        ...


class Admission:
    """The door of one gateway.

    Args:
        desk: Decides.
        telemetry: Of this gateway.
        name: Of this gateway, for the desk.
    """

    def __init__(self, desk: DeskAccess, telemetry: GatewayTelemetry, name: str) -> None:
        self._desk = desk
        self._telemetry = telemetry
        self._name = name
        self.times = StageTimes()

    def check_open(self) -> None:
        """Tell whether new work is taken at all.

        Raises:
            Unavailable: While the system drains.
        """
        if self._desk.state.is_draining:
            raise Unavailable("the system is stopping", retry_after_s=DRAINING_RETRY_S)

    def refused_early(self, count: int) -> None:
        """Count requests that a proxy refused because this door was closed."""
        self._telemetry.metrics.add(Metric.ADMISSIONS, "door_closed", by=count)
        self._telemetry.metrics.add(Metric.REQUESTS, "none", Overloaded.code, by=count)

    @asynccontextmanager
    async def enter(
        self, request: AnswerRequest, cost: Cost, telemetry: RequestTelemetry
    ) -> AsyncIterator[Grant]:
        """Wait for leave to work, and give it back in the end.

        Args:
            request: What is asked.
            cost: What it is expected to take.
            telemetry: Of the request.

        Yields:
            The leave.

        Raises:
            Overloaded: If there is no room, in the queue either.
            DeadlineExceeded: If the deadline cannot be met, waiting or not.
            Unavailable: If the system drains.
        """
        ask = Ask(
            ticket=uuid.uuid4().hex,
            gateway=self._name,
            tenant=request.tenant,
            cost=cost,
            deadline=request.deadline,
            needs_s=self.times.least_s(request.options.route),
        )
        reply = await self._ask(ask, telemetry)
        metrics = self._telemetry.metrics
        metrics.add(Metric.KV_BYTES, by=cost.kv_bytes)
        try:
            telemetry.set({Attribute.BROWNOUT: reply.level})
            yield reply
        finally:
            metrics.add(Metric.KV_BYTES, by=-cost.kv_bytes)
            self._desk.release(ask.ticket)

    async def _ask(self, ask: Ask, telemetry: RequestTelemetry) -> Grant:
        metrics, arrived, outcome = self._telemetry.metrics, time.monotonic(), "cancelled"
        metrics.add(Metric.ADMISSION_WAITING)
        try:
            with telemetry.step(Span.ADMISSION_WAIT):
                reply = await self._desk.admit(ask)
                if isinstance(reply, Refusal):
                    outcome = reply.reason
                    raise _error(reply)
            outcome = "admitted"
            metrics.observe(Metric.ADMISSION_WAIT, time.monotonic() - arrived)
            return reply
        finally:
            if outcome == "cancelled":
                self._desk.release(ask.ticket)
            metrics.add(Metric.ADMISSION_WAITING, by=-1.0)
            metrics.add(Metric.ADMISSIONS, outcome)
            metrics.set(Metric.BROWNOUT_LEVEL, self._desk.state.level)


def _error(refusal: Refusal) -> QZoomError:
    match refusal.reason:
        case "draining" | "gone":
            return Unavailable(refusal.message, retry_after_s=DRAINING_RETRY_S)
        case "expired":
            return DeadlineExceeded(refusal.message)
        case "deadline" if refusal.retry_after_s == 0.0:
            return DeadlineExceeded(refusal.message)
        case _:
            error = Overloaded(refusal.message, retry_after_s=max(1.0, refusal.retry_after_s))
            error.closed_s = refusal.closed_s
            return error
