"""Where do the numbers of all gateways meet? In one small actor, to which each gateway reports.

A scrape reaches one gateway of several, so each pushes what it has counted and any of them renders
the total. The actor outlives the gateways: what a gateway that was replaced had counted stays.
"""

import asyncio
import contextlib
from typing import Any

import ray
from ray.exceptions import RayError

from qzoom.errors import Unavailable
from qzoom.telemetry.metrics import MetricsLedger, MetricsRegistry, Samples, Snapshot, render

NAMESPACE = "qzoom"
PUSH_PERIOD_S = 1.0
CALL_TIMEOUT_S = 5.0


class _LedgerActor:
    """Holds the ledger of one application."""

    def __init__(self) -> None:
        self._ledger = MetricsLedger()

    def put(self, snapshot: Snapshot) -> None:
        """Take a gateway's newest snapshot."""
        self._ledger.put(snapshot)

    def put_and_total(self, snapshot: Snapshot) -> Samples:
        """Take a gateway's newest snapshot and return the sum over all gateways."""
        self._ledger.put(snapshot)
        return self._ledger.total()


class Ledger:
    """One gateway's end of the shared ledger. Owns the task that reports to it.

    Args:
        application: Name of the Serve application; its gateways share a ledger.
        metrics: Of this gateway.
    """

    def __init__(self, application: str, metrics: MetricsRegistry) -> None:
        self._application = application
        self._metrics = metrics
        self._reporting = asyncio.get_running_loop().create_task(
            self._report(), name="metrics-report"
        )

    async def render(self) -> str:
        """Give the Prometheus text of all gateways together.

        Raises:
            Unavailable: If the ledger does not answer.
        """
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                total = self._actor().put_and_total.remote(self._metrics.snapshot())
                samples: Samples = await total
        except (RayError, TimeoutError) as error:
            raise Unavailable("the metrics ledger does not answer") from error
        return render(samples).decode("utf-8")

    def close(self) -> None:
        """Stop reporting; the ledger keeps what it was told."""
        self._reporting.cancel()

    async def _report(self) -> None:
        while True:
            # A ledger that is being restarted gets the whole count with the next report.
            with contextlib.suppress(RayError, TimeoutError):
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    await self._actor().put.remote(self._metrics.snapshot())
            await asyncio.sleep(PUSH_PERIOD_S)

    def _actor(self) -> Any:  # noqa: ANN401 Ray does not type the handle of an actor
        return (
            ray.remote(_LedgerActor)
            .options(
                name=f"qzoom-metrics-{self._application}",
                namespace=NAMESPACE,
                get_if_exists=True,
                lifetime="detached",
                num_cpus=0,
                max_restarts=-1,
            )
            .remote()
        )
