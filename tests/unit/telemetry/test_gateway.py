import pytest

from qzoom.contracts.stages import CacheUse, Proposal, Timing
from qzoom.errors import NotFound, Overloaded
from qzoom.telemetry.gateway import GatewayTelemetry
from qzoom.telemetry.names import Metric, Span
from qzoom.telemetry.traces import TraceRecord, TraceStore

TIMING = Timing(queue_s=0.25, compute_s=0.5, batch_size=2)


@pytest.fixture
def gateway(monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    return GatewayTelemetry(max_traces=2)


def value(gateway, metric, suffix="", **labels):
    samples = gateway.metrics.snapshot().samples
    return samples.get((metric.value.name + suffix, tuple(sorted(labels.items()))), 0)


def zoom(gateway, request_id="r1"):
    with gateway.request(request_id, {}, "builtin") as told:
        with told.call(Span.GATE_PREFILL) as call:
            call.replied(TIMING)
        told.gate_decided(0.9, 0.5, is_open=True)
        told.took_route("zoom", Proposal(0, (0, 0, 1, 1), (10, 20, 30, 40), 0.75))
        told.visual_tokens(coarse=64, roi=16, spared=0)
        told.first_token()
        told.answered(prompt_tokens=100, output_tokens=3, finish="stop")
        assert value(gateway, Metric.IN_FLIGHT) == 1
    return gateway.traces.get(request_id)


def test_a_waterfall_holds_what_the_stage_said(gateway):
    record = zoom(gateway)
    assert record.outcome == "ok"
    assert [span.name for span in record.spans] == ["gate.prefill", "gate.decide"]
    prefill = record.spans[0]
    assert (prefill.queue_ms, prefill.compute_ms, prefill.batch_size) == (250.0, 500.0, 2)
    assert record.attributes["qzoom.box"] == (10, 20, 30, 40)
    assert record.attributes["qzoom.tokens.coarse"] == 64
    assert gateway.traces.get(record.trace_id) is record
    assert record.summary()["route"] == "zoom"


def test_counts_follow_a_zoomed_request(gateway):
    zoom(gateway)
    assert value(gateway, Metric.REQUESTS, route="zoom", outcome="ok") == 1
    assert value(gateway, Metric.GATE_DECISIONS, decision="open") == 1
    assert value(gateway, Metric.GATE_SCORE, "_sum") == pytest.approx(0.9)
    assert value(gateway, Metric.STAGE_QUEUE, "_sum", stage="gate.prefill") == 0.25
    assert value(gateway, Metric.STAGE_COMPUTE, "_sum", stage="gate.prefill") == 0.5
    assert value(gateway, Metric.VISUAL_TOKENS, kind="roi") == 16
    assert value(gateway, Metric.TEXT_TOKENS, kind="output") == 3
    assert value(gateway, Metric.TTFT, "_count", route="zoom") == 1
    assert value(gateway, Metric.TPOT, "_count", route="zoom") == 1
    assert value(gateway, Metric.IN_FLIGHT) == 0


def test_a_refused_request_counts_by_its_code(gateway):
    with (
        pytest.raises(Overloaded),
        gateway.request("r1", {}, "builtin") as told,
        told.call(Span.ENCODER_COARSE),
    ):
        raise Overloaded("full")
    assert value(gateway, Metric.REQUESTS, route="none", outcome="overloaded") == 1
    assert value(gateway, Metric.STAGE_ERRORS, stage="encoder.coarse", code="overloaded") == 1
    assert value(gateway, Metric.REQUEST_SECONDS, "_count", route="none") == 0
    assert value(gateway, Metric.IN_FLIGHT) == 0
    assert gateway.traces.get("r1").spans[0].error == "overloaded"


def test_degrading_and_running_again_are_counted(gateway):
    with gateway.request("r1", {}, "builtin") as told:
        told.degraded(Span.RPN_PROPOSE, Overloaded("full"))
        told.rerun()
        told.rerun()
    assert value(gateway, Metric.DEGRADED, stage="rpn.propose") == 1
    assert value(gateway, Metric.RERUNS) == 2
    attributes = gateway.traces.get("r1").attributes
    assert attributes["qzoom.degraded"] == "rpn.propose: overloaded"
    assert attributes["qzoom.reruns"] == 2


def test_a_clients_trace_goes_on_and_a_new_one_begins_without(gateway):
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01", "tracestate": "a=1"}
    with gateway.request("r1", headers, "builtin") as told:
        assert told.trace_id == trace_id
        assert told.headers == headers
    fresh = set()
    for broken in ({}, {"traceparent": "rubbish"}, {"traceparent": f"00-{'0' * 32}-0-01"}):
        with gateway.request("r2", broken, "builtin") as told:
            assert told.headers["traceparent"].split("-")[1] == told.trace_id
            fresh.add(told.trace_id)
    assert len(fresh) == 3
    assert all(len(i) == 32 and int(i, 16) for i in fresh)


def test_the_store_forgets_the_oldest(gateway):
    for name in ("r1", "r2", "r3"):
        zoom(gateway, name)
    assert [record.request_id for record in gateway.traces.recent()] == ["r3", "r2"]
    with pytest.raises(NotFound, match="r1"):
        gateway.traces.get("r1")


def test_of_several_requests_with_one_trace_the_newest_is_found():
    store = TraceStore()
    for request_id in ("r1", "r2"):
        store.add(TraceRecord("t", request_id, 0.0, 1.0, "ok"))
    assert store.get("t").request_id == "r2"
    assert store.get("r1").request_id == "r1"


def test_caches_are_counted_by_stage(gateway):
    for reused, computed, held in ((0, 40, 1000), (40, 0, 2000), (40, 0, None)):
        with gateway.request("r1", {}, "builtin") as told:
            with told.call(Span.GATE_PREFILL) as call:
                call.replied(Timing(0.0, 0.0, 1, CacheUse(reused, computed, held)))
            told.remembers(77)
    stage = {"stage": "gate.prefill"}
    assert value(gateway, Metric.CACHE_LOOKUPS, result="hit", **stage) == 2
    assert value(gateway, Metric.CACHE_LOOKUPS, result="miss", **stage) == 1
    assert value(gateway, Metric.CACHE_TOKENS, kind="reused", **stage) == 80
    assert value(gateway, Metric.CACHE_TOKENS, kind="computed", **stage) == 40
    assert value(gateway, Metric.CACHE_BYTES, **stage) == 2000
    assert value(gateway, Metric.CACHE_BYTES, stage="gateway") == 77
    assert gateway.traces.get("r1").spans[0].reused_tokens == 40
