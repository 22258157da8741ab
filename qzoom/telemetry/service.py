"""What does one replica of a stage report? A span and a log line for each request."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from qzoom.contracts.stages import Context, Timing
from qzoom.telemetry.logs import EventLog
from qzoom.telemetry.names import Attribute, AttributeValue, Event, Span
from qzoom.telemetry.tracing import OpenSpan, Tracer, cache_attributes, error_code


class StageCall:
    """One call of a stage, being worked on."""

    def __init__(self, span: OpenSpan) -> None:
        self._span = span
        self.fields: dict[Attribute, AttributeValue] = {}

    def ran(
        self, timing: Timing, attributes: Mapping[Attribute, AttributeValue] | None = None
    ) -> None:
        """Say how the time was spent, just after the batch ended.

        Args:
            timing: As the reply carries it.
            attributes: What else is known about the result, such as p(refine).
        """
        self._span.ran(timing, attributes)
        self.fields |= {
            Attribute.QUEUE_MS: round(timing.queue_s * 1e3, 3),
            Attribute.COMPUTE_MS: round(timing.compute_s * 1e3, 3),
            Attribute.BATCH_SIZE: timing.batch_size,
            **cache_attributes(timing),
            **(attributes or {}),
        }


class ServiceTelemetry:
    """Tracing and logs of one replica. Built once in its constructor; closed when it stops.

    Args:
        service: `encoder`, `gate`, `rpn` or `llm`.
    """

    def __init__(self, service: str) -> None:
        self.log = EventLog(service)
        self._tracer = Tracer(service)

    @contextmanager
    def stage(self, name: Span, context: Context) -> Iterator[StageCall]:
        """Cover one call, from its arrival at the replica to its reply.

        An exception that leaves the block marks span and log line, and goes on. Safe in an async
        generator.

        Args:
            name: One of `STAGES`.
            context: Of the request.

        Yields:
            The call; tell it `ran(timing)` when the batch is over.
        """
        started = time.perf_counter()
        with self._tracer.span(name, context.trace) as span:
            call = StageCall(span)
            outcome = "ok"
            try:
                yield call
            except BaseException as error:
                outcome = error_code(error)
                raise
            finally:
                duration_ms = round((time.perf_counter() - started) * 1e3, 3)
                fields: dict[Attribute, AttributeValue] = {
                    Attribute.STAGE: name.value,
                    Attribute.OUTCOME: outcome,
                    Attribute.DURATION_MS: duration_ms,
                }
                self.log.info(
                    Event.STAGE_DONE, context.request_id, span.trace_id, fields | call.fields
                )

    def close(self) -> None:
        """Send what is left, within seconds, and stop."""
        self._tracer.close()
