"""How does one request become one trace across processes? W3C context in, OTLP out.

The gateway opens `gateway.request` and sends its context along in `Context.trace`; each service
opens its own span under it, so a trace has one root and its spans carry the name of the service
that did the work. Spans are exported by OTLP/HTTP where the standard variables name an endpoint
(`OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`); without one, ids are
still made and passed on, and nothing else is done. `OTEL_TRACES_SAMPLER`, `OTEL_BSP_*` and
`OTEL_EXPORTER_OTLP_*` work as OpenTelemetry defines them.

Spans are explicit objects: nothing is attached to the current context, because stage methods are
async generators, whose context changes between two items.
"""

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry.context import Context as OtelContext
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import Tracer as OtelTracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from qzoom.contracts.stages import Timing
from qzoom.errors import Cancelled, QZoomError
from qzoom.telemetry.names import STAGES, Attribute, AttributeValue, Span
from qzoom.version import VERSION

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_SERVED = (Span.REQUEST, *STAGES)
_CLOSE_S = 5.0
_W3C = TraceContextTextMapPropagator()
_IDS = RandomIdGenerator()


def error_code(error: BaseException) -> str:
    """Name an exception as metrics, spans and clients do: from a small fixed set."""
    if isinstance(error, QZoomError):
        return error.code
    if isinstance(error, (GeneratorExit, asyncio.CancelledError)):
        return Cancelled.code
    return QZoomError.code


class OpenSpan:
    """A span that has not ended, with the attributes and children that it may get.

    Args:
        span: OpenTelemetry's own span; it may be one that records nothing.
        tracer: For children.
    """

    def __init__(self, span: OtelSpan, tracer: "Tracer") -> None:
        self._span = span
        self._tracer = tracer
        self.headers = _inject(span)

    @property
    def trace_id(self) -> str:
        """The trace's id, 32 hexadecimal digits."""
        return format_trace_id(self._span.get_span_context().trace_id)

    def set(self, attributes: Mapping[Attribute, AttributeValue]) -> None:
        """Add attributes."""
        for name, value in attributes.items():
            self._span.set_attribute(name.value, value)

    def ran(
        self, timing: Timing, attributes: Mapping[Attribute, AttributeValue] | None = None
    ) -> None:
        """Say how the call's time was spent, just after its batch ended.

        Adds the two children `stage.queue` and `stage.compute`, dated back from now.

        Args:
            timing: As the reply carries it.
            attributes: What else is known about the result.
        """
        self.set(
            {
                Attribute.QUEUE_MS: timing.queue_s * 1e3,
                Attribute.COMPUTE_MS: timing.compute_s * 1e3,
                Attribute.BATCH_SIZE: timing.batch_size,
                **cache_attributes(timing),
                **(attributes or {}),
            }
        )
        if not self._span.is_recording():
            return
        end = time.time_ns()
        started = end - int(timing.compute_s * 1e9)
        arrived = started - int(timing.queue_s * 1e9)
        self._tracer.completed(Span.QUEUE, self, arrived, started)
        self._tracer.completed(Span.COMPUTE, self, started, end, timing.peers)

    def failed(self, error: BaseException) -> None:
        """Mark the span as an error; the text of the exception stays out of the trace."""
        code = error_code(error)
        self.set({Attribute.ERROR_TYPE: code})
        self._span.set_status(StatusCode.ERROR, code)

    def end(self) -> None:
        """End the span now."""
        self._span.end()


class Tracer:
    """Makes the spans of one service. One per process; built once and passed down.

    Args:
        service: `gateway`, `encoder`, `gate`, `rpn` or `llm`.
    """

    def __init__(self, service: str) -> None:
        self._provider = _provider(service)
        self._tracer: OtelTracer | None = None
        if self._provider is not None:
            self._tracer = self._provider.get_tracer("qzoom", VERSION)

    @contextmanager
    def span(
        self,
        name: Span,
        parent: Mapping[str, str],
        attributes: Mapping[Attribute, AttributeValue] | None = None,
    ) -> Iterator[OpenSpan]:
        """Open a span for a block of code; an exception that leaves the block marks it.

        Args:
            name: What is done.
            parent: W3C headers of the parent: `Context.trace`, or what a client sent. Without
                valid ones a new trace begins.
            attributes: What is known at the start.

        Yields:
            The span; `.headers` are the W3C headers for its children in other processes.
        """
        context = _W3C.extract(parent)
        if self._tracer is None:
            span = OpenSpan(_unrecorded(context), self)
        else:
            kind = SpanKind.SERVER if name in _SERVED else SpanKind.INTERNAL
            span = OpenSpan(self._tracer.start_span(name.value, context, kind), self)
        span.set(attributes or {})
        try:
            yield span
        except BaseException as error:
            span.failed(error)
            raise
        finally:
            span.end()

    def completed(
        self, name: Span, parent: OpenSpan, start_ns: int, end_ns: int, peers: Sequence[str] = ()
    ) -> None:
        """Record a span that is already over.

        Args:
            name: What was done.
            parent: Its parent.
            start_ns: Start in Unix nanoseconds.
            end_ns: End in Unix nanoseconds.
            peers: `traceparent` of requests that it was done for as well; the span links to them.
        """
        if self._tracer is None:
            return
        context = _W3C.extract(parent.headers)
        linked = (
            get_current_span(_W3C.extract({"traceparent": peer})).get_span_context()
            for peer in peers
        )
        links = [Link(one) for one in linked if one.is_valid]
        span = self._tracer.start_span(name.value, context, start_time=start_ns, links=links)
        span.end(end_ns)

    def close(self) -> None:
        """Send what is left, within seconds, and stop.

        A collector that does not answer may hold the SDK's shutdown for half a minute, so it runs
        in a thread that is not waited for longer.
        """
        if self._provider is not None:
            closing = threading.Thread(
                target=self._provider.shutdown, name="qzoom-trace-close", daemon=True
            )
            closing.start()
            closing.join(_CLOSE_S)


def _inject(span: OtelSpan) -> dict[str, str]:
    headers: dict[str, str] = {}
    _W3C.inject(headers, set_span_in_context(span))
    return headers


def _unrecorded(context: OtelContext) -> OtelSpan:
    """Pass the client's context on as it is; begin a trace where there is none."""
    parent = get_current_span(context).get_span_context()
    if parent.is_valid:
        return NonRecordingSpan(parent)
    return NonRecordingSpan(
        SpanContext(
            _IDS.generate_trace_id(),
            _IDS.generate_span_id(),
            is_remote=False,
            trace_flags=TraceFlags(TraceFlags.DEFAULT),
        )
    )


def resource_of(service: str) -> Resource:
    """Say who reports, as OpenTelemetry does.

    Args:
        service: Such as `gateway`.
    """
    return Resource.create(
        {
            "service.name": os.environ.get("OTEL_SERVICE_NAME", f"qzoom-{service}"),
            "service.namespace": "qzoom",
            "service.version": VERSION,
            "service.instance.id": f"{service}-{os.getpid()}",
        }
    )


def _provider(service: str) -> TracerProvider | None:
    """Build the SDK's provider where an endpoint is configured and tracing is not switched off."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    off = off or os.environ.get("OTEL_TRACES_EXPORTER", "otlp") == "none"
    if off or not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    # Imported here: the exporter brings an HTTP client that an unobserved replica never needs.
    from opentelemetry.exporter.otlp.proto.http import trace_exporter  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=resource_of(service))
    provider.add_span_processor(BatchSpanProcessor(trace_exporter.OTLPSpanExporter()))
    return provider


def cache_attributes(timing: Timing) -> dict[Attribute, AttributeValue]:
    """Say what a cache spared; nothing where there is none."""
    if timing.cache is None:
        return {}
    return {
        Attribute.CACHE_HIT: timing.cache.is_hit,
        Attribute.CACHE_REUSED: timing.cache.reused,
    }
