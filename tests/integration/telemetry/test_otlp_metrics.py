"""Metrics that are pushed are those that are scraped: received over real OTLP/HTTP."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from qzoom.contracts.stages import Timing
from qzoom.telemetry.gateway import GatewayTelemetry
from qzoom.telemetry.names import LATENCY_BUCKETS_S, Metric, Span


@pytest.fixture
def receiver(monkeypatch):
    """A receiver on a free port, named by the environment; gives what has come."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/metrics":
                requests.append(ExportMetricsServiceRequest.FromString(body))
            reply = ExportMetricsServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield requests
    server.shutdown()
    thread.join(5)
    server.server_close()


def work(gateway):
    with gateway.request("r1", {}, "m") as told:
        with told.call(Span.GATE_PREFILL) as call:
            call.replied(Timing(0.02, 0.3, 2))
        told.gate_decided(0.9, 0.5, is_open=True)


def received(requests):
    [resource] = requests[-1].resource_metrics
    [scope] = resource.scope_metrics
    attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
    return attributes, {metric.name: metric for metric in scope.metrics}


def test_what_is_pushed_has_names_labels_and_buckets_of_the_scrape(receiver, monkeypatch):
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    gateway = GatewayTelemetry()
    work(gateway)
    work(gateway)
    gateway.close()

    attributes, metrics = received(receiver)
    assert attributes["service.name"] == "qzoom-gateway"
    assert attributes["service.instance.id"]
    assert set(metrics) <= {metric.value.name for metric in Metric}
    [requests] = metrics["qzoom_requests_total"].sum.data_points
    assert requests.as_double == 2
    assert {a.key: a.value.string_value for a in requests.attributes} == {
        "route": "none", "outcome": "ok",
    }  # fmt: skip
    assert metrics["qzoom_requests_total"].sum.is_monotonic
    assert metrics["qzoom_requests_in_flight"].gauge.data_points[0].as_double == 0
    compute = metrics["qzoom_stage_compute_seconds"]
    assert (compute.unit, compute.description) == ("s", Metric.STAGE_COMPUTE.value.meaning)
    [point] = compute.histogram.data_points
    assert tuple(point.explicit_bounds) == LATENCY_BUCKETS_S
    assert (point.count, point.sum) == (2, pytest.approx(0.6))
    assert not point.HasField("min")
    counts = dict(zip((*LATENCY_BUCKETS_S, "more"), point.bucket_counts, strict=True))
    assert {bound: count for bound, count in counts.items() if count} == {0.5: 2}


def test_they_are_pushed_again_and_again(receiver, monkeypatch):
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
    gateway = GatewayTelemetry()
    waited = threading.Event()
    for _ in range(200):
        if len(receiver) >= 3:
            break
        waited.wait(0.05)
    gateway.close()
    assert len(receiver) >= 3


def test_nothing_is_pushed_unless_it_is_asked_for(receiver):
    gateway = GatewayTelemetry()
    work(gateway)
    gateway.close()
    assert receiver == []
