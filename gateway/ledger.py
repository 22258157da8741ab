"""Where do the numbers and traces of all gateways meet? In one small actor, to which each reports.

A client reaches one gateway of several, so each pushes what it has counted and which requests it
has finished, and any of them shows the whole. The actor outlives the gateways: what a gateway that
was replaced had counted stays in the sum.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from ray.exceptions import RayError, RayTaskError

from gateway.actors import Actor, named_actor
from gateway.history import History
from gateway.stats import summary
from qzoom.errors import NotFound, QZoomError, Unavailable
from qzoom.telemetry.gateway import GatewayTelemetry
from qzoom.telemetry.metrics import MetricsLedger, Samples, Snapshot, render
from qzoom.telemetry.traces import TraceRecord, TraceStore

PUSH_PERIOD_S = 1.0
CALL_TIMEOUT_S = 5.0


class _LedgerActor:
    """Holds the ledger of one application.

    Args:
        max_traces: Requests of all gateways whose waterfalls are kept.
    """

    def __init__(self, max_traces: int) -> None:
        self._metrics = MetricsLedger()
        self._history = History()
        self._traces = TraceStore(max_traces)

    def put(self, snapshot: Snapshot, traces: Sequence[TraceRecord]) -> None:
        """Take a gateway's newest snapshot, and what it has finished, the oldest first."""
        self._metrics.put(snapshot)
        if self._history.is_due:
            self._history.note(self._metrics.total())
        for record in traces:
            self._traces.add(record)

    def total(self) -> Samples:
        """Sum the snapshots of all gateways."""
        return self._metrics.total()

    def since(self, window_s: float) -> tuple[Samples, float]:
        """Tell what all gateways counted within a window; see `History.since`."""
        return self._history.since(window_s, self._metrics.total())

    def trace(self, key: str, tenant: str | None) -> TraceRecord:
        """Find a request of any gateway, of one tenant or of all.

        Raises:
            NotFound: If it never was here or is forgotten.
        """
        return self._traces.get(key, tenant)

    def traces(self, limit: int, tenant: str | None) -> list[TraceRecord]:
        """List the newest requests of all gateways, of one tenant or of all."""
        return self._traces.recent(limit, tenant)


class Ledger:
    """One gateway's end of the shared ledger. Owns the task that reports to it.

    Args:
        application: Name of the Serve application; its gateways share a ledger.
        telemetry: Of this gateway.
        max_traces: Requests whose waterfalls are kept.
    """

    def __init__(self, application: str, telemetry: GatewayTelemetry, max_traces: int) -> None:
        self._name = f"qzoom-ledger-{application}"
        self._telemetry = telemetry
        self._max_traces = max_traces
        self._reported: TraceRecord | None = None
        self._lock = asyncio.Lock()
        self._reporting = asyncio.get_running_loop().create_task(
            self._report_always(), name="ledger-reports"
        )

    async def render(self) -> str:
        """Give the Prometheus text of all gateways together.

        Raises:
            Unavailable: If the ledger does not answer.
        """
        return render(await self._ask("total")).decode("utf-8")

    async def stats(self, window_s: float) -> dict[str, Any]:
        """Say how all gateways together did within a window that ends now.

        Args:
            window_s: Its length in seconds; 0 means since the start.

        Raises:
            Unavailable: If the ledger does not answer.
        """
        samples, seconds = await self._ask("since", window_s)
        return summary(samples, seconds)

    async def trace(self, key: str, tenant: str | None) -> dict[str, Any]:
        """Give the waterfall of a request, by its trace id or request id.

        Another gateway's request is found a second after its end at the latest.

        Args:
            key: One of its ids.
            tenant: Whose it must be; None takes anybody's.

        Raises:
            NotFound: If no gateway remembers it.
            Unavailable: If the ledger does not answer.
        """
        try:
            return self._telemetry.traces.get(key, tenant).to_json()
        except NotFound:
            record: TraceRecord = await self._ask("trace", key, tenant)
            return record.to_json()

    async def traces(self, limit: int, tenant: str | None) -> list[dict[str, Any]]:
        """List the newest requests of all gateways, of one tenant or of all.

        Raises:
            Unavailable: If the ledger does not answer.
        """
        records: list[TraceRecord] = await self._ask("traces", limit, tenant)
        return [record.summary() for record in records]

    def close(self) -> None:
        """Stop reporting; the ledger keeps what it was told."""
        self._reporting.cancel()

    async def _report_always(self) -> None:
        while True:
            # A ledger that is being restarted gets the whole count with the next report.
            with contextlib.suppress(RayError, TimeoutError):
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    await self._report()
            await asyncio.sleep(PUSH_PERIOD_S)

    async def _ask(self, method: str, *args: object) -> Any:  # noqa: ANN401 as the method says
        """Report, so that the answer includes this gateway, then ask."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._report()
                return await getattr(self._actor(), method).remote(*args)
        except RayTaskError as error:
            if isinstance(error.cause, QZoomError):
                raise error.cause from None
            raise
        except (RayError, TimeoutError) as error:
            raise Unavailable("the ledger of the gateways does not answer") from error

    async def _report(self) -> None:
        async with self._lock:
            newest_first = self._telemetry.traces.recent()
            new = list(takewhile(lambda record: record is not self._reported, newest_first))
            await self._actor().put.remote(self._telemetry.metrics.snapshot(), new[::-1])
            if new:
                self._reported = new[0]

    def _actor(self) -> Actor:
        return named_actor(_LedgerActor, self._name, self._max_traces)
