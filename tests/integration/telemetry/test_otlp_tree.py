"""One request is one trace, made by several processes and received over real OTLP/HTTP."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time

import pytest

from qzoom.contracts.stages import Timing
from qzoom.errors import Overloaded
from qzoom.telemetry.gateway import GatewayTelemetry
from qzoom.telemetry.names import Attribute, Span
from qzoom.telemetry.tracing import Tracer

CLIENT_SPAN = "b7ad6b7169203331"
TIMING = Timing(queue_s=0.010, compute_s=0.020, batch_size=3)

# A stage in a process of its own: reads W3C headers, one request per line, and works on them
# concurrently.
STAGE = """
import asyncio, json, sys
from qzoom.contracts.stages import Context, Timing
from qzoom.telemetry.names import Attribute, Span
from qzoom.telemetry.service import ServiceTelemetry

async def work(telemetry, request):
    context = Context(request["id"], 2e9, request["headers"])
    with telemetry.stage(Span.GATE_PREFILL, context) as call:
        await asyncio.sleep(0.02)
        if request["id"] == "broken":
            raise RuntimeError("the text of an exception")
        peers = tuple(request.get("peers", ()))
        call.ran(Timing(0.005, 0.010, 2, peers=peers), {Attribute.P_REFINE: 0.25})

async def main():
    telemetry = ServiceTelemetry("gate")
    requests = [json.loads(line) for line in sys.stdin]
    await asyncio.gather(*(work(telemetry, r) for r in requests), return_exceptions=True)
    telemetry.close()

asyncio.run(main())
"""


def run_stage(requests):
    done = subprocess.run(
        [sys.executable, "-c", STAGE],
        input="\n".join(json.dumps(r) for r in requests),
        env=dict(os.environ),
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def client_headers(trace_id, flags="01"):
    return {"traceparent": f"00-{trace_id}-{CLIENT_SPAN}-{flags}"}


def count(number):
    return lambda spans: len(spans) >= number


@pytest.fixture
def exporting(otlp, monkeypatch):
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    for name, value in otlp.env.items():
        monkeypatch.setenv(name, value)
    return otlp


@pytest.fixture
def trace_id():
    return secrets.token_hex(16)


def test_a_request_is_one_tree_across_two_processes(exporting, trace_id):
    gateway = GatewayTelemetry()
    with gateway.request("r1", client_headers(trace_id), "builtin") as told:
        with told.step(Span.IMAGE_DECODE):
            pass
        with told.call(Span.GATE_PREFILL) as call:
            lines = run_stage([{"id": "r1", "headers": told.headers}])
            call.replied(TIMING)
        told.gate_decided(0.25, 0.5, is_open=False)
        told.took_route("direct")
    gateway.close()

    spans = {s.name: s for s in exporting.wait(trace_id, count(6))}
    assert set(spans) == {
        "gateway.request", "image.decode", "gate.prefill", "gate.decide",
        "stage.queue", "stage.compute",
    }  # fmt: skip
    root = spans["gateway.request"]
    assert root.parent_id == CLIENT_SPAN
    assert root.service == "qzoom-gateway"
    for name in ("image.decode", "gate.prefill", "gate.decide"):
        assert spans[name].parent_id == root.span_id
    prefill = spans["gate.prefill"]
    assert prefill.service == "qzoom-gate"
    for name in ("stage.queue", "stage.compute"):
        assert spans[name].parent_id == prefill.span_id
        assert spans[name].service == "qzoom-gate"
    assert prefill.attributes["qzoom.p_refine"] == 0.25
    assert prefill.attributes["qzoom.batch_size"] == 2
    assert spans["stage.queue"].end_ns == spans["stage.compute"].start_ns
    assert abs(spans["stage.compute"].end_ns - spans["stage.compute"].start_ns - 10e6) < 1e5
    assert root.start_ns <= prefill.start_ns <= prefill.end_ns <= root.end_ns
    assert root.attributes["qzoom.route"] == "direct"
    assert root.attributes["gen_ai.operation.name"] == "chat"
    assert not any(s.is_error for s in spans.values())
    assert [line["trace_id"] for line in lines] == [trace_id]


def test_concurrent_requests_do_not_mix(exporting):
    tracer = Tracer("gateway")
    requests, roots = [], set()
    for index in range(8):
        with tracer.span(Span.REQUEST, {}, {Attribute.REQUEST_ID: f"r{index}"}) as span:
            requests.append({"id": f"r{index}", "headers": span.headers})
            roots.add(span.trace_id)
    assert len(roots) == 8
    run_stage(requests)
    tracer.close()
    for root in roots:
        spans = exporting.wait(root, count(4))
        assert sorted(s.name for s in spans) == [
            "gate.prefill", "gateway.request", "stage.compute", "stage.queue",
        ]  # fmt: skip
        by_name = {s.name: s for s in spans}
        assert by_name["gate.prefill"].parent_id == by_name["gateway.request"].span_id


def test_a_batch_links_the_traces_of_its_requests(exporting, trace_id):
    other = secrets.token_hex(16)
    tracer = Tracer("gateway")
    with (
        tracer.span(Span.REQUEST, client_headers(trace_id)) as one,
        tracer.span(Span.REQUEST, client_headers(other)) as two,
    ):
        peers = [[two.headers["traceparent"], "no traceparent"], [one.headers["traceparent"]]]
        run_stage(
            [
                {"id": "r1", "headers": one.headers, "peers": peers[0]},
                {"id": "r2", "headers": two.headers, "peers": peers[1]},
            ]
        )
    tracer.close()
    for own, linked in ((trace_id, other), (other, trace_id)):
        spans = {s.name: s for s in exporting.wait(own, count(4))}
        assert spans["stage.compute"].links == (linked,)
        assert spans["stage.queue"].links == ()


def test_errors_are_marked_without_their_text(exporting, trace_id):
    tracer = Tracer("gateway")

    def refuse():
        with tracer.span(Span.REQUEST, client_headers(trace_id)) as span:
            run_stage([{"id": "broken", "headers": span.headers}])
            raise Overloaded("the text of an exception")

    with pytest.raises(Overloaded):
        refuse()
    tracer.close()
    spans = {s.name: s for s in exporting.wait(trace_id, count(2))}
    assert spans["gateway.request"].is_error
    assert spans["gateway.request"].attributes["error.type"] == "overloaded"
    assert spans["gate.prefill"].is_error
    assert spans["gate.prefill"].attributes["error.type"] == "internal_error"
    assert not any("text" in str(s.attributes) for s in spans.values())


async def test_a_stream_that_is_closed_early_ends_as_cancelled(exporting, trace_id):
    gateway = GatewayTelemetry()

    async def flow():
        headers = client_headers(trace_id)
        with gateway.request("r1", headers, "builtin") as told, told.call(Span.LLM_DECODE):
            while True:
                yield "token"
                await asyncio.sleep(0)

    stream = flow()
    await anext(stream)
    await stream.aclose()
    assert gateway.traces.get("r1").outcome == "cancelled"
    gateway.close()
    [span] = exporting.wait(trace_id, count(1))
    assert span.attributes["error.type"] == "cancelled"


def test_an_unsampled_parent_is_respected_and_passed_on(exporting, trace_id):
    tracer = Tracer("gateway")
    with tracer.span(Span.REQUEST, client_headers(trace_id, flags="00")) as span:
        assert span.headers["traceparent"].startswith(f"00-{trace_id}-")
        assert span.headers["traceparent"].endswith("-00")
    tracer.close()
    assert exporting.of(trace_id) == []


def test_closing_does_not_wait_for_a_dead_collector(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    tracer = Tracer("gateway")
    with tracer.span(Span.REQUEST, {}):
        pass
    start = time.monotonic()
    tracer.close()
    assert time.monotonic() - start < 8
