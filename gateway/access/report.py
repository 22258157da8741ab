"""What is measured about tenants and the store? Counts, and the log line when the store is lost.

Labels come from a bounded set: tenants that an operator has named get a label, in the order in
which they come, up to `MAX_LABELS`; all others share one.
"""

from collections.abc import Callable, Set
from typing import Literal

from qzoom.contracts.request import AnswerRequest
from qzoom.contracts.tenancy import DEFAULT_TENANT
from qzoom.errors import QZoomError
from qzoom.store.limits import Amounts
from qzoom.telemetry.gateway import GatewayTelemetry
from qzoom.telemetry.names import Attribute, Event, Metric

MAX_LABELS = 50
OTHER = "other"

Keyed = Literal["stored", "replayed", "in_use", "reused", "too_large"]
"""What became of a request with an Idempotency-Key."""


class AccessReport:
    """Counts for one gateway.

    Args:
        telemetry: Of the gateway.
        named: Gives the tenants that an operator has named.
    """

    def __init__(self, telemetry: GatewayTelemetry, named: Callable[[], Set[str]]) -> None:
        self._telemetry = telemetry
        self._named = named
        self._labels = {DEFAULT_TENANT}

    def ended(self, tenant: str, outcome: str, used: Amounts) -> None:
        """Count a request that has ended."""
        label = self._label(tenant)
        metrics = self._telemetry.metrics
        metrics.add(Metric.TENANT_REQUESTS, label, outcome)
        if used.visual_tokens:
            metrics.add(Metric.TENANT_TOKENS, label, "visual", by=used.visual_tokens)
        if used.generated_tokens:
            metrics.add(Metric.TENANT_TOKENS, label, "generated", by=used.generated_tokens)

    def limited(self, tenant: str, limit: str) -> None:
        """Count that a limit of a tenant was reached."""
        self._telemetry.metrics.add(Metric.QUOTA_REFUSALS, self._label(tenant), limit)

    def refused(self, request: AnswerRequest, error: QZoomError) -> None:
        """Count, trace and log a request that was refused before the flow saw it."""
        try:
            with self._telemetry.request(
                request.request_id, request.trace, request.model, request.tenant
            ):
                raise error
        except QZoomError:
            self.ended(request.tenant, error.code, Amounts())

    def replayed(self, request: AnswerRequest, route: str) -> None:
        """Count, trace and log an answer that was told again."""
        with self._telemetry.request(
            request.request_id, request.trace, request.model, request.tenant
        ) as told:
            told.set({Attribute.REPLAYED: True, Attribute.ROUTE: route})
        self.keyed("replayed")
        self.ended(request.tenant, "ok", Amounts())

    def keyed(self, outcome: Keyed) -> None:
        """Count what became of a request with an Idempotency-Key."""
        self._telemetry.metrics.add(Metric.REPLAYS, outcome)

    def unknown_caller(self) -> None:
        """Count a call that was not let in."""
        self._telemetry.metrics.add(Metric.AUTH_FAILURES)

    def store_lost(self, reason: str) -> None:
        """Count and log that local state answers from now on."""
        self._telemetry.metrics.add(Metric.STORE_DEGRADED)
        self._telemetry.metrics.add(Metric.STORE_LOSSES)
        self._telemetry.log.warning(Event.STORE_LOST, "", "", {Attribute.STORE_REASON: reason})

    def store_back(self) -> None:
        """Count and log that the store answers again."""
        self._telemetry.metrics.add(Metric.STORE_DEGRADED, by=-1.0)
        self._telemetry.log.info(Event.STORE_BACK, "", "", {})

    def store_asked(self, operation: str, seconds: float) -> None:
        """Measure how long a request waited for the store."""
        self._telemetry.metrics.observe(Metric.STORE_SECONDS, seconds, operation)

    def _label(self, tenant: str) -> str:
        if tenant in self._labels:
            return tenant
        if len(self._labels) < MAX_LABELS and tenant in self._named():
            self._labels.add(tenant)
            return tenant
        return OTHER
