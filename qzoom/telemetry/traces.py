"""Where did the time of a recent request go? A bounded store of waterfalls in the gateway.

It needs no collector: the gateway measures every call that it makes, and each reply says how much
of it was queue and how much compute.
"""

import threading
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

from qzoom.errors import NotFound
from qzoom.telemetry.names import Attribute, AttributeValue


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """One bar of the waterfall, as the gateway saw it.

    Attributes:
        name: A `Span`.
        start_ms: Milliseconds after the start of the request.
        duration_ms: Milliseconds of the whole call; beyond queue and compute lies the transfer.
        queue_ms: Milliseconds from the arrival at a replica to its batch; None within the gateway.
        compute_ms: Milliseconds that the batch took; None within the gateway.
        batch_size: Requests that shared the batch; None within the gateway.
        error: Code of the error that ended it, if one did.
        reused_tokens: Tokens that a cache spared; None where there is none.
    """

    name: str
    start_ms: float
    duration_ms: float
    queue_ms: float | None = None
    compute_ms: float | None = None
    batch_size: int | None = None
    error: str | None = None
    reused_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """The waterfall of one finished request.

    Attributes:
        trace_id: The W3C trace id, 32 hexadecimal digits.
        request_id: Our id of the request.
        started: Unix time of the start in seconds.
        duration_ms: Milliseconds from the first byte to the last token.
        outcome: `ok` or the code of the error.
        attributes: What became known of the request, by `Attribute`.
        spans: The bars in the order in which they began.
    """

    trace_id: str
    request_id: str
    started: float
    duration_ms: float
    outcome: str
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    spans: tuple[SpanRecord, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Build the answer of `GET /v1/traces/{id}`."""
        return asdict(self)

    def summary(self) -> dict[str, Any]:
        """Build one row of `GET /v1/traces`."""
        return {
            "trace_id": self.trace_id,
            "request_id": self.request_id,
            "started": self.started,
            "duration_ms": self.duration_ms,
            "outcome": self.outcome,
            "route": self.attributes.get("qzoom.route"),
        }


class TraceStore:
    """Remembers the newest requests. Safe to use from several threads.

    Args:
        max_traces: Beyond this the oldest are forgotten.
    """

    def __init__(self, max_traces: int = 256) -> None:
        self._records: deque[TraceRecord] = deque(maxlen=max_traces)
        self._lock = threading.Lock()

    def add(self, record: TraceRecord) -> None:
        """Remember a finished request."""
        with self._lock:
            self._records.appendleft(record)

    def get(self, key: str, tenant: str | None = None) -> TraceRecord:
        """Find a request by its trace id or its request id; the newest of several.

        Args:
            key: One of its ids.
            tenant: Whose it must be; None takes anybody's.

        Raises:
            NotFound: If it never was here or is forgotten.
        """
        for record in self.recent(tenant=tenant):
            if key in (record.trace_id, record.request_id):
                return record
        raise NotFound(f"no recent trace {key[:64]!r}; {len(self)} are kept")

    def recent(self, limit: int | None = None, tenant: str | None = None) -> list[TraceRecord]:
        """List the newest requests first, of one tenant or of all."""
        with self._lock:
            records = list(self._records)
        if tenant is not None:
            records = [r for r in records if r.attributes.get(Attribute.TENANT.value) == tenant]
        return records[:limit]

    def __len__(self) -> int:
        return len(self._records)
