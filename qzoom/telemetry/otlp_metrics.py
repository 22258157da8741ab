"""How do the metrics of a gateway reach an OpenTelemetry collector? Pushed, beside being scraped.

What is pushed has the names, labels and buckets of `/metrics`. Each gateway pushes what it has
counted itself, under its own `service.instance.id`; whoever reads adds them up. Off unless
OTEL_METRICS_EXPORTER is `otlp`: most deployments scrape, and a trace store takes no metrics.
"""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as Exported
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from qzoom.telemetry.metrics import Labels, MetricsRegistry, Samples
from qzoom.telemetry.names import Kind, Metric, MetricSpec
from qzoom.telemetry.tracing import resource_of
from qzoom.version import VERSION

ENDPOINTS = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PERIOD_MS = 60_000
"""Between two exports, unless OTEL_METRIC_EXPORT_INTERVAL says otherwise; OpenTelemetry's own."""

_CLOSE_S = 3.0
_SCOPE = InstrumentationScope("qzoom", VERSION)


class MetricsPusher:
    """Exports a registry from time to time. Owns a thread; `close` ends it.

    Args:
        registry: Of this process.
        service: Such as `gateway`.
    """

    def __init__(self, registry: MetricsRegistry, service: str) -> None:
        # Imported here: the exporter brings an HTTP client that an unobserved gateway never needs.
        from opentelemetry.exporter.otlp.proto.http import metric_exporter  # noqa: PLC0415

        self._registry = registry
        self._resource = resource_of(service)
        self._exporter: Any = metric_exporter.OTLPMetricExporter()
        self._started_ns = time.time_ns()
        self._period_s = float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", PERIOD_MS)) / 1e3
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="qzoom-metrics-push", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Export once more, within seconds, and stop."""
        self._closing.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._closing.wait(self._period_s)
            # A collector that is away gets the whole count with the next export.
            samples = self._registry.snapshot().samples
            self._exporter.export(
                to_otlp(samples, self._resource, self._started_ns, time.time_ns()),
                timeout_millis=_CLOSE_S * 1e3,
            )
        self._exporter.shutdown(timeout_millis=0)


def pusher(registry: MetricsRegistry, service: str) -> MetricsPusher | None:
    """Begin to export where the environment asks for it."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    off = off or os.environ.get("OTEL_METRICS_EXPORTER", "none") != "otlp"
    if off or not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    return MetricsPusher(registry, service)


def to_otlp(samples: Samples, resource: Resource, start_ns: int, now_ns: int) -> MetricsData:
    """Write samples as OpenTelemetry does; counts are cumulative.

    Args:
        samples: Of one registry.
        resource: Who counted.
        start_ns: Since when, in Unix nanoseconds.
        now_ns: Until when.
    """
    by_name: defaultdict[str, dict[Labels, float]] = defaultdict(dict)
    for (name, labels), value in samples.items():
        by_name[name][labels] = value
    metrics = []
    for metric in Metric:
        spec = metric.value
        if spec.kind is Kind.HISTOGRAM:
            data: Any = Histogram(
                list(_histogram(spec, by_name, start_ns, now_ns)), AggregationTemporality.CUMULATIVE
            )
        else:
            points = [
                NumberDataPoint(dict(labels), start_ns, now_ns, value)
                for labels, value in by_name[spec.name].items()
            ]
            data = (
                Gauge(points)
                if spec.kind is Kind.GAUGE
                else Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
            )
        if data.data_points:
            metrics.append(Exported(spec.name, spec.meaning, _unit(spec), data))
    scope = ScopeMetrics(_SCOPE, metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _histogram(
    spec: MetricSpec, by_name: Mapping[str, Mapping[Labels, float]], start_ns: int, now_ns: int
) -> Iterator[HistogramDataPoint]:
    buckets = by_name[f"{spec.name}_bucket"]
    unknown: Any = None  # Lowest and highest value; the protocol lets them out.
    for labels, count in by_name[f"{spec.name}_count"].items():
        upto = [
            buckets[tuple(sorted((*labels, ("le", bound))))]
            for bound in (*map(str, map(float, spec.buckets)), "+Inf")
        ]
        each = [int(b - a) for a, b in zip([0.0, *upto], upto, strict=False)]
        total = by_name[f"{spec.name}_sum"][labels]
        yield HistogramDataPoint(
            dict(labels), start_ns, now_ns, int(count), total, each, spec.buckets, unknown, unknown
        )


def _unit(spec: MetricSpec) -> str:
    if "_seconds" in spec.name:
        return "s"
    return "By" if "_bytes" in spec.name else "1"
