"""What does the gateway report about one request? Its trace, its counts and one log line.

The request flow tells a `RequestTelemetry` what happens; nothing else in the gateway needs to know
that spans, metrics, logs and the store of recent traces exist.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from qzoom.contracts.stages import Proposal, Timing
from qzoom.contracts.tenancy import DEFAULT_TENANT
from qzoom.errors import QZoomError
from qzoom.telemetry.logs import EventLog
from qzoom.telemetry.metrics import MetricsRegistry
from qzoom.telemetry.names import STAGES, Attribute, AttributeValue, Event, Metric, Span
from qzoom.telemetry.otlp_metrics import pusher
from qzoom.telemetry.traces import SpanRecord, TraceRecord, TraceStore
from qzoom.telemetry.tracing import OpenSpan, Tracer, error_code

_UNDECIDED = "none"


class Call:
    """One call of a stage, as the gateway sees it."""

    timing: Timing | None = None

    def replied(self, timing: Timing | None) -> None:
        """Keep the time that the stage measured; None if its reply carries none."""
        self.timing = timing


class RequestTelemetry:
    """Everything that is measured about one request. Made by `GatewayTelemetry.request`."""

    def __init__(self, gateway: "GatewayTelemetry", span: OpenSpan, request_id: str) -> None:
        self._gateway = gateway
        self._metrics = gateway.metrics
        self._span = span
        self._started = time.perf_counter()
        self._started_unix = time.time()
        self._first_token_s: float | None = None
        self._records: list[SpanRecord] = []
        self._attributes: dict[Attribute, AttributeValue] = {}
        self.request_id = request_id

    @property
    def trace_id(self) -> str:
        """The trace's id, 32 hexadecimal digits."""
        return self._span.trace_id

    @property
    def headers(self) -> dict[str, str]:
        """W3C headers that make a service's span a child of this request: `Context.trace`."""
        return self._span.headers

    def set(self, attributes: Mapping[Attribute, AttributeValue]) -> None:
        """Add what became known to the trace and to the log line."""
        self._attributes |= attributes
        self._span.set(attributes)

    @contextmanager
    def step(self, name: Span) -> Iterator[None]:
        """Cover work of the gateway itself, such as `image.decode`, with a span."""
        with self._record(name, Call()), self._gateway.tracer.span(name, self.headers):
            yield

    @contextmanager
    def call(self, name: Span) -> Iterator[Call]:
        """Cover a call of a stage, whose own span the service makes.

        Args:
            name: One of `STAGES`.

        Yields:
            The call; tell it `replied(timing)` when the reply is here.
        """
        assert name in STAGES, f"{name} is no stage"
        call = Call()
        try:
            with self._record(name, call):
                yield call
        except BaseException as error:
            self._metrics.add(Metric.STAGE_ERRORS, name.value, error_code(error))
            raise
        if call.timing is not None:
            self._observe_stage(self._records[-1], call.timing)

    @contextmanager
    def _record(self, name: Span, call: Call) -> Iterator[None]:
        start = time.perf_counter()
        failure: str | None = None
        try:
            yield
        except BaseException as error:
            failure = error_code(error)
            raise
        finally:
            timing = call.timing
            self._records.append(
                SpanRecord(
                    name=name.value,
                    start_ms=(start - self._started) * 1e3,
                    duration_ms=(time.perf_counter() - start) * 1e3,
                    queue_ms=timing.queue_s * 1e3 if timing else None,
                    compute_ms=timing.compute_s * 1e3 if timing else None,
                    batch_size=timing.batch_size if timing else None,
                    error=failure,
                    reused_tokens=timing.cache.reused if timing and timing.cache else None,
                )
            )

    def _observe_stage(self, record: SpanRecord, timing: Timing) -> None:
        transfer_s = record.duration_ms / 1e3 - timing.queue_s - timing.compute_s
        self._metrics.observe(Metric.STAGE_QUEUE, timing.queue_s, record.name)
        self._metrics.observe(Metric.STAGE_COMPUTE, timing.compute_s, record.name)
        self._metrics.observe(Metric.STAGE_TRANSFER, max(0.0, transfer_s), record.name)
        self._metrics.observe(Metric.BATCH_SIZE, timing.batch_size, record.name)
        if timing.cache is not None:
            use, stage = timing.cache, record.name
            self._metrics.add(Metric.CACHE_LOOKUPS, stage, "hit" if use.is_hit else "miss")
            self._metrics.add(Metric.CACHE_TOKENS, stage, "reused", by=use.reused)
            self._metrics.add(Metric.CACHE_TOKENS, stage, "computed", by=use.computed)
            if use.held_bytes is not None:
                self._metrics.set(Metric.CACHE_BYTES, use.held_bytes, stage)

    def remembers(self, num_bytes: int) -> None:
        """Record what the gateway itself keeps of pictures."""
        self._metrics.set(Metric.CACHE_BYTES, num_bytes, "gateway")

    def holds(self, references: int) -> None:
        """Record that the request holds so many references more, or fewer."""
        self._metrics.add(Metric.STATE_REFERENCES, by=references)

    def gate_decided(self, p_refine: float | None, tau_gate: float | None, is_open: bool) -> None:
        """Record the gate's decision as `gate.decide`.

        Args:
            p_refine: The gate's score; None where it was not asked or the model has none.
            tau_gate: The threshold that was used; None without a score.
            is_open: Whether the RPN is asked.
        """
        known = {Attribute.P_REFINE: p_refine, Attribute.TAU_GATE: tau_gate}
        attributes = {name: value for name, value in known.items() if value is not None}
        with (
            self._record(Span.GATE_DECIDE, Call()),
            self._gateway.tracer.span(Span.GATE_DECIDE, self.headers, attributes),
        ):
            self.set(attributes)
        if p_refine is not None:
            self._metrics.observe(Metric.GATE_SCORE, p_refine)
            self._metrics.add(Metric.GATE_DECISIONS, "open" if is_open else "closed")

    def took_route(self, route: str, proposal: Proposal | None = None) -> None:
        """Record the route that the answer comes from: `direct`, or `zoom` with its box."""
        self.set({Attribute.ROUTE: route})
        if proposal is not None:
            self.set(
                {
                    Attribute.BOX: proposal.box_px,
                    Attribute.BOX_SCORE: proposal.score,
                    Attribute.IMAGE: proposal.image,
                }
            )

    def visual_tokens(self, *, coarse: int, roi: int, spared: int) -> None:
        """Count visual tokens: computed ones, and those of a crop that was not needed."""
        self.set(
            {
                Attribute.TOKENS_COARSE: coarse,
                Attribute.TOKENS_ROI: roi,
                Attribute.TOKENS_SPARED: spared,
            }
        )
        for kind, count in (("coarse", coarse), ("roi", roi), ("spared", spared)):
            self._metrics.add(Metric.VISUAL_TOKENS, kind, by=count)

    def first_token(self) -> None:
        """Mark the moment of the first token; later calls change nothing."""
        if self._first_token_s is None:
            self._first_token_s = time.perf_counter() - self._started

    def answered(self, *, prompt_tokens: int, output_tokens: int, finish: str) -> None:
        """Record the end of a complete answer."""
        self.set(
            {
                Attribute.GEN_AI_INPUT_TOKENS: prompt_tokens,
                Attribute.GEN_AI_OUTPUT_TOKENS: output_tokens,
                Attribute.GEN_AI_FINISH_REASONS: (finish,),
            }
        )
        self._metrics.add(Metric.TEXT_TOKENS, "prompt", by=prompt_tokens)
        self._metrics.add(Metric.TEXT_TOKENS, "output", by=output_tokens)
        duration_s = time.perf_counter() - self._started
        route = self._route
        self._metrics.observe(Metric.REQUEST_SECONDS, duration_s, route)
        if self._first_token_s is not None:
            self._metrics.observe(Metric.TTFT, self._first_token_s, route)
            if output_tokens > 1:
                per_token_s = (duration_s - self._first_token_s) / (output_tokens - 1)
                self._metrics.observe(Metric.TPOT, per_token_s, route)

    def degraded(self, stage: Span, error: BaseException) -> None:
        """Record that a stage of the zoom branch failed and the coarse answer is given."""
        self.set({Attribute.DEGRADED: f"{stage.value}: {error_code(error)}"})
        self._metrics.add(Metric.DEGRADED, stage.value)
        self._gateway.log.warning(
            Event.REQUEST_DEGRADED, self.request_id, self.trace_id, self._attributes
        )

    def rerun(self) -> None:
        """Record that the stages run again because their state was lost."""
        previous = self._attributes.get(Attribute.RERUNS, 0)
        assert isinstance(previous, int)
        self.set({Attribute.RERUNS: previous + 1})
        self._metrics.add(Metric.RERUNS)
        self._gateway.log.warning(
            Event.REQUEST_RERUN, self.request_id, self.trace_id, self._attributes
        )

    @property
    def _route(self) -> str:
        return str(self._attributes.get(Attribute.ROUTE, _UNDECIDED))

    def finish(self, outcome: str) -> None:
        """Count, log and store the request; called once, by `GatewayTelemetry.request`."""
        duration_ms = (time.perf_counter() - self._started) * 1e3
        self.set({Attribute.OUTCOME: outcome})
        self._metrics.add(Metric.REQUESTS, self._route, outcome)
        fields = self._attributes | {Attribute.DURATION_MS: round(duration_ms, 3)}
        self._gateway.log.info(Event.REQUEST_DONE, self.request_id, self.trace_id, fields)
        self._gateway.traces.add(
            TraceRecord(
                trace_id=self.trace_id,
                request_id=self.request_id,
                started=self._started_unix,
                duration_ms=duration_ms,
                outcome=outcome,
                attributes={name.value: value for name, value in self._attributes.items()},
                spans=tuple(sorted(self._records, key=lambda record: record.start_ms)),
            )
        )


class GatewayTelemetry:
    """Tracing, metrics, logs and recent traces of one gateway. Built once, closed at the end.

    Args:
        max_traces: Requests whose waterfalls are kept.
    """

    def __init__(self, max_traces: int = 256) -> None:
        self.tracer = Tracer("gateway")
        self.metrics = MetricsRegistry()
        self.traces = TraceStore(max_traces)
        self.log = EventLog("gateway")
        self._pusher = pusher(self.metrics, "gateway")

    @contextmanager
    def request(
        self, request_id: str, headers: Mapping[str, str], model: str, tenant: str = DEFAULT_TENANT
    ) -> Iterator[RequestTelemetry]:
        """Cover one request; an exception that leaves the block becomes its outcome.

        Safe in an async generator: closing it early counts as `cancelled`.

        Args:
            request_id: Our id of the request.
            headers: W3C trace context that the client sent, lower-case names; may be empty.
            model: Name of the model that answers.
            tenant: Who asks.

        Yields:
            What the request flow tells about itself.
        """
        with self.tracer.span(Span.REQUEST, headers) as span:
            request = RequestTelemetry(self, span, request_id)
            request.set(
                {
                    Attribute.REQUEST_ID: request_id,
                    Attribute.GEN_AI_OPERATION: "chat",
                    Attribute.GEN_AI_MODEL: model,
                    Attribute.TENANT: tenant,
                }
            )
            self.metrics.add(Metric.IN_FLIGHT)
            outcome = "ok"
            try:
                yield request
            except BaseException as error:
                outcome = error_code(error)
                if outcome == QZoomError.code:
                    self.log.error(request_id, request.trace_id, error)
                raise
            finally:
                self.metrics.add(Metric.IN_FLIGHT, by=-1.0)
                request.finish(outcome)

    def close(self) -> None:
        """Send what is left of traces and metrics, within seconds, and stop."""
        self.tracer.close()
        if self._pusher is not None:
            self._pusher.close()
