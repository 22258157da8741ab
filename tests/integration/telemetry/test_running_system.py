"""What does the running system tell? Whole traces, waterfalls and sums, through real sockets."""

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import ray
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from qzoom.client import Client
from qzoom.pb import qzoom_pb2 as pb
from qzoom.pb import qzoom_pb2_grpc
from qzoom.telemetry.names import STAGES, Attribute, Kind, Metric, Span

pytestmark = pytest.mark.cluster

REQUEST_TIMEOUT_S = 120.0
QZOOM = "from cli.main import app; app()"
CLIENT_SPAN = "b7ad6b7169203331"
DIRECT = [
    "admission.wait", "image.decode", "encoder.coarse", "gate.prefill", "gate.decide", "llm.resume",
    "llm.decode",
]  # fmt: skip
ZOOM = [
    "admission.wait", "image.decode", "encoder.coarse", "gate.prefill", "gate.decide",
    "rpn.propose", "encoder.roi", "llm.resume", "llm.decode",
]  # fmt: skip
ALWAYS_DIRECT = {"tau_gate": 1.0}
ALWAYS_ZOOM = {"tau_gate": 0.0, "tau_roi": 0.01}


@pytest.fixture
def picture():
    """A picture of each test's own: no stage finds it in a cache."""
    pixels = np.random.default_rng(secrets.randbits(64)).integers(0, 255, (120, 160, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def parent_of(trace_id):
    return f"00-{trace_id}-{CLIENT_SPAN}-01"


def ask(cluster, picture, qzoom, trace_id=None, text="What is it?"):
    """One question over REST, in a trace of the client's; the picture is a file or a URL."""
    url = picture
    if isinstance(picture, bytes):
        url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": text},
    ]
    trace_id = trace_id or secrets.token_hex(16)
    return httpx.post(
        f"{cluster.url}/v1/chat/completions",
        json={
            "model": cluster.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": 4,
            "qzoom": qzoom,
        },
        headers={"traceparent": parent_of(trace_id)},
        timeout=REQUEST_TIMEOUT_S,
    )


def is_whole(route):
    wanted = {"gateway.request", *(DIRECT if route == "direct" else ZOOM)}
    return lambda spans: wanted <= {s.name for s in spans}


def check_tree(spans, route):
    """Assert the whole tree of one request."""
    stages = DIRECT if route == "direct" else ZOOM
    [root] = [s for s in spans if s.name == "gateway.request"]
    children = sorted((s for s in spans if s.parent_id == root.span_id), key=lambda s: s.start_ns)
    assert [s.name for s in children] == stages
    for child in children:
        grandchildren = [s for s in spans if s.parent_id == child.span_id]
        if child.name in STAGES:
            assert child.service == f"qzoom-{child.name.partition('.')[0]}"
            assert sorted(s.name for s in grandchildren) == ["stage.compute", "stage.queue"]
            assert {s.service for s in grandchildren} == {child.service}
            assert child.attributes["qzoom.batch_size"] >= 1
        else:
            assert child.service == "qzoom-gateway"
            assert grandchildren == []
        assert root.start_ns <= child.start_ns
    assert len(spans) == 1 + len(stages) + 2 * len([s for s in stages if s in set(STAGES)])
    assert not any(s.is_error for s in spans)
    assert root.attributes["qzoom.route"] == route
    assert 0 <= root.attributes["qzoom.p_refine"] <= 1
    assert root.attributes["qzoom.tokens.coarse"] > 0
    assert ("qzoom.box" in root.attributes) == (route == "zoom")
    assert root.attributes["gen_ai.usage.output_tokens"] >= 1
    return root


def test_each_request_is_one_whole_tree_under_concurrency(cluster, otlp, picture):
    asked = {secrets.token_hex(16): route for route in ("direct", "zoom") * 4}

    def answer(trace_id):
        options = ALWAYS_DIRECT if asked[trace_id] == "direct" else ALWAYS_ZOOM
        return ask(cluster, picture, options, trace_id).json()["qzoom"]

    with ThreadPoolExecutor(8) as clients:
        answers = dict(zip(asked, clients.map(answer, asked), strict=True))
    for trace_id, route in asked.items():
        assert answers[trace_id]["trace_id"] == trace_id
        assert answers[trace_id]["route"] == route
        root = check_tree(otlp.wait(trace_id, is_whole(route)), route)
        assert root.parent_id == CLIENT_SPAN


def test_grpc_is_traced_as_rest_is_under_concurrency(cluster, otlp, picture):
    asked = {secrets.token_hex(16): route for route in ("direct", "zoom") * 3}

    def answer(trace_id):
        options = ALWAYS_DIRECT if asked[trace_id] == "direct" else ALWAYS_ZOOM
        parts = [pb.Part(image_url=pb.ImageUrl(data=picture)), pb.Part(text="What is it?")]
        question = pb.AnswerRequest(
            model=cluster.model,
            messages=[pb.Message(role=pb.ROLE_USER, content=parts)],
            max_tokens=4,
            qzoom=pb.Options(**options),
        )
        headers = (("application", cluster.application), ("traceparent", parent_of(trace_id)))
        return stub.Answer(question, metadata=headers, timeout=REQUEST_TIMEOUT_S)

    with grpc.insecure_channel(cluster.grpc_target) as channel, ThreadPoolExecutor(6) as clients:
        stub = qzoom_pb2_grpc.QZoomStub(channel)
        list(clients.map(answer, asked))
    for trace_id, route in asked.items():
        root = check_tree(otlp.wait(trace_id, is_whole(route)), route)
        assert root.parent_id == CLIENT_SPAN


def test_a_call_without_a_trace_begins_one(cluster, otlp, picture):
    with Client(f"grpc://{cluster.grpc_target}", model=cluster.model) as client:
        answered = client.ask(
            picture, "What is it?", max_tokens=4, timeout_s=REQUEST_TIMEOUT_S, **ALWAYS_DIRECT
        )
    root = check_tree(otlp.wait(answered.trace_id, is_whole("direct")), "direct")
    assert root.parent_id == ""


def test_each_service_writes_one_line_a_call_with_the_trace_and_no_prompt(cluster, picture):
    """All that the processes of the cluster write, as an agent on the node would collect it."""
    secret = "xyzzyx"
    trace_id = ask(cluster, picture, ALWAYS_ZOOM, text=secret).json()["qzoom"]["trace_id"]
    folder = Path(ray.nodes()[0]["ObjectStoreSocketName"]).parents[1] / "logs"

    def lines():
        texts = (path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())
        return [json.loads(line) for text in texts for line in text.splitlines()
                if trace_id in line and line.startswith('{"time"')]  # fmt: skip

    def told(found):
        return sorted((line["service"], line.get("qzoom.stage", line["event"])) for line in found)

    wanted = sorted([
        ("encoder", "encoder.coarse"), ("encoder", "encoder.roi"), ("gate", "gate.prefill"),
        ("gateway", "gateway.request.done"), ("llm", "llm.decode"), ("llm", "llm.resume"),
        ("rpn", "rpn.propose"),
    ])  # fmt: skip
    found = eventually(lines, lambda seen: len(seen) >= len(wanted))
    assert told(found) == wanted
    assert len({line["request_id"] for line in found}) == 1
    everything = "".join(p.read_text(errors="replace") for p in folder.rglob("*") if p.is_file())
    assert secret not in everything


def test_a_refused_request_is_marked(cluster, otlp, picture):
    trace_id = secrets.token_hex(16)
    reply = ask(cluster, picture[:200], {}, trace_id)
    assert reply.status_code in (400, 415)
    spans = otlp.wait(trace_id, lambda spans: "gateway.request" in {s.name for s in spans})
    [root] = [s for s in spans if s.name == "gateway.request"]
    assert root.is_error
    assert root.attributes["error.type"] == reply.json()["error"]["code"]


def test_everything_emitted_is_in_the_vocabulary_and_the_other_way_round(cluster, otlp, picture):
    trace_ids = {
        ask(cluster, picture, options).json()["qzoom"]["trace_id"]: route
        for options, route in ((ALWAYS_DIRECT, "direct"), (ALWAYS_ZOOM, "zoom"))
    }
    for trace_id, route in trace_ids.items():
        otlp.wait(trace_id, is_whole(route))
    remote = ask(cluster, "https://pictures.example/a.png", {}, trace_id=secrets.token_hex(16))
    assert "remote images are not enabled" in remote.text
    fetched = remote.request.headers["traceparent"].split("-")[1]
    otlp.wait(fetched, lambda spans: {"gateway.request", "image.fetch"} <= {s.name for s in spans})
    ours = [s for s in otlp.spans if s.service.startswith("qzoom-")]
    assert {s.name for s in ours} == {span.value for span in Span}
    seen = {name for s in ours for name in s.attributes}
    assert seen <= {attribute.value for attribute in Attribute}


def test_the_waterfall_of_a_request_is_drawn(cluster, picture):
    trace_id = ask(cluster, picture, ALWAYS_ZOOM).json()["qzoom"]["trace_id"]
    # Another gateway of the cluster knows it a second later.
    record = eventually(
        lambda: httpx.get(f"{cluster.url}/v1/traces/{trace_id}", timeout=10).json(),
        lambda found: "spans" in found,
    )
    assert [span["name"] for span in record["spans"]] == ZOOM
    for span in record["spans"]:
        if span["name"] in {stage.value for stage in STAGES}:
            assert span["compute_ms"] > 0
            assert span["queue_ms"] >= 0
        assert span["start_ms"] + span["duration_ms"] <= record["duration_ms"] + 1
    drawn = eventually(
        lambda: subprocess.run(
            [sys.executable, "-c", QZOOM, "trace", trace_id, "--url", cluster.url],
            env={**os.environ, "COLUMNS": "140", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ),
        lambda run: run.returncode == 0,
    )
    assert drawn.returncode == 0, drawn.stderr
    for name in ZOOM:
        assert name in drawn.stdout


def eventually(look, is_there, patience_s=10.0):
    """Look again until it is there or patience ends; return what was seen last."""
    end = time.monotonic() + patience_s
    while not is_there(found := look()) and time.monotonic() < end:
        time.sleep(0.2)
    return found


def scrape(cluster):
    text = httpx.get(f"{cluster.url}/metrics", timeout=10).text
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def settled(cluster):
    """A scrape that holds all earlier requests: gateways report to each other once a second."""

    def counts(found):
        return {key: value for key, value in found.items() if key[0].startswith("qzoom_gate_")}

    found = scrape(cluster)
    for _ in range(10):
        time.sleep(1.5)
        last, found = found, scrape(cluster)
        if counts(last) == counts(found):
            break
    return found


def test_a_scrape_counts_every_request_and_every_stage(cluster, picture):
    before = settled(cluster)
    for _ in range(3):
        assert ask(cluster, picture, ALWAYS_ZOOM).status_code == 200
    done = ("qzoom_requests_total", (("outcome", "ok"), ("route", "zoom")))
    wanted = before.get(done, 0.0) + 3
    after = eventually(lambda: scrape(cluster), lambda found: found.get(done, 0.0) >= wanted)

    def grown(name, **labels):
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0.0)

    assert grown("qzoom_requests_total", route="zoom", outcome="ok") == 3
    assert grown("qzoom_gate_decisions_total", decision="open") == 3
    assert grown("qzoom_gate_score_count") == 3
    for stage in STAGES:
        for part in ("queue", "compute", "transfer"):
            assert grown(f"qzoom_stage_{part}_seconds_count", stage=stage.value) == 3
        assert grown("qzoom_stage_compute_seconds_sum", stage=stage.value) > 0
    for kind in ("coarse", "roi"):
        assert grown("qzoom_visual_tokens_total", kind=kind) > 0
    for gauge in ("requests_in_flight", "state_references", "kv_bytes"):
        assert after[f"qzoom_{gauge}", ()] == 0
    families = {name for name, _ in after}
    for metric in Metric:
        if not metric.value.labels:
            suffix = "_count" if metric.value.kind is Kind.HISTOGRAM else ""
            assert metric.value.name + suffix in families


def test_no_prompt_and_no_pixel_leaves_in_a_trace(cluster, otlp, picture):
    secret = "zzyzx"
    trace_id = ask(cluster, picture, ALWAYS_ZOOM, text=secret).json()["qzoom"]["trace_id"]
    spans = otlp.wait(trace_id, is_whole("zoom"))
    record = httpx.get(f"{cluster.url}/v1/traces/{trace_id}", timeout=10).text
    assert secret not in json.dumps([s.attributes for s in spans]) + record
