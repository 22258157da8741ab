"""One running system for the whole session: our own Ray, HTTP and gRPC, five deployments."""

import base64
import gzip
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, settings
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from PIL import Image

# Tests never depend on wall time: a busy machine is slow.
settings.register_profile("qzoom", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("qzoom")

SMALL_BUDGET = {
    "coarse_min_tokens": 16,
    "coarse_max_tokens": 64,
    "roi_min_tokens": 16,
    "roi_max_tokens": 48,
}
START_TIMEOUT_S = 600.0
REDIS_START_S = 10.0
STAGE_TIMEOUT_S = 30.0
GATEWAY_SETTINGS = {
    "replicas": 2,
    "reuse_mib": 0,
    "stage_timeout_s": STAGE_TIMEOUT_S,
    # Room for every test; those of load set their own bounds.
    "admit_requests": 32,
    "admit_waiting": 256,
    "brownout_steps": 0,
}
ENCODER_SETTINGS = {"threads": 1}
STAGE_SETTINGS = {"threads": 1, "count_work": True}
# Untrimmed, so that counts are exactly the method's.
EXACT_SETTINGS = {**STAGE_SETTINGS, "trim": False}
LLM_SETTINGS = {**EXACT_SETTINGS, "max_slots": 8, "max_len": 1024}


@dataclass(frozen=True)
class Cluster:
    """The running system.

    Attributes:
        url: Base URL of REST.
        grpc_target: Target of a gRPC channel.
        model: Name of the model.
        checkpoint: Its folder: random weights of Qwen2.5-VL, our own format, preset `paper`.
        ready: What /readyz said when the system became ready.
        application: Name of the Serve application.
        budget: Fields of QZoomConfig that keep its pictures small.
        stage_timeout_s: After so many seconds of silence a stage hangs.
        store: Address of what its gateways share.
    """

    url: str
    grpc_target: str
    model: str
    checkpoint: Path
    ready: dict[str, Any]
    application: str
    budget: dict[str, int]
    stage_timeout_s: float
    store: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class ReceivedSpan:
    """One exported span with the service that exported it."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    is_error: bool
    attributes: dict[str, Any]
    links: tuple[str, ...] = ()


@dataclass
class OtlpReceiver:
    """Spans received so far."""

    endpoint: str
    spans: list[ReceivedSpan] = field(default_factory=list)

    def wait(
        self,
        trace_id: str,
        is_complete: Callable[[list[ReceivedSpan]], bool],
        timeout_s: float = 20.0,
    ) -> list[ReceivedSpan]:
        """Return the spans of a trace as soon as it is complete; fail with what is there."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if is_complete(spans := self.of(trace_id)):
                return spans
            time.sleep(0.05)
        seen = sorted((s.service, s.name) for s in self.of(trace_id))
        pytest.fail(f"trace {trace_id} is incomplete after {timeout_s} s; received: {seen}")

    def of(self, trace_id: str) -> list[ReceivedSpan]:
        """The spans of one trace that have come so far."""
        return [span for span in tuple(self.spans) if span.trace_id == trace_id]

    @property
    def env(self) -> dict[str, str]:
        """Variables that make a process export here without delay."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind)


def _spans(request: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for resource_spans in request.resource_spans:
        resource = {a.key: _value(a.value) for a in resource_spans.resource.attributes}
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield ReceivedSpan(
                    service=resource["service.name"],
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    is_error=span.status.code == 2,
                    attributes={a.key: _value(a.value) for a in span.attributes},
                    links=tuple(link.trace_id.hex() for link in span.links),
                )


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep this user's keys and settings out of the tests, and theirs out of the user's file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        for name in ("QZOOM_API_KEY", "QZOOM_GATEWAY_STORE", "QZOOM_GATEWAY_AUTH"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def otlp() -> Iterator[OtlpReceiver]:
    """Listen on a free port; the cluster and some tests export their spans here."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces", self.path
            received.spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))
            reply = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *args: object) -> None:
            """Keep the test's output free of access lines."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received = OtlpReceiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield received
    server.shutdown()
    thread.join(5)
    server.server_close()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, otlp: OtlpReceiver) -> Iterator[Cluster]:
    """Start the system once; every test that uses it carries the marker `cluster`."""
    from deploy.config import AppConfig  # noqa: PLC0415 most runs of single tests need no Ray
    from deploy.local import APPLICATION, LocalConfig, LocalSystem  # noqa: PLC0415
    from qzoom.model.random_checkpoint import write_random_checkpoint  # noqa: PLC0415

    checkpoint = tmp_path_factory.mktemp("cluster") / "random-qwen2_5_vl"
    write_random_checkpoint(checkpoint, "qwen2_5_vl", **SMALL_BUDGET)
    store = f"sqlite://{checkpoint.parent / 'store.sqlite3'}"
    app = AppConfig(
        model=checkpoint,
        gateway={**GATEWAY_SETTINGS, "store": store},
        encoder=ENCODER_SETTINGS,
        gate=EXACT_SETTINGS,
        rpn=STAGE_SETTINGS,
        llm=LLM_SETTINGS,
    )
    config = LocalConfig(
        app, port=free_port(), grpc_port=free_port(), start_timeout_s=START_TIMEOUT_S
    )
    with LocalSystem(config) as system:
        # Ray's processes take the environment over; this one shall not export.
        with pytest.MonkeyPatch.context() as patch:
            for name, value in otlp.env.items():
                patch.setenv(name, value)
            ready = system.start(lambda _progress: None)
        yield Cluster(
            url=system.url,
            grpc_target=system.grpc_target,
            model=checkpoint.name,
            checkpoint=checkpoint,
            ready=ready,
            application=APPLICATION,
            budget=SMALL_BUDGET,
            stage_timeout_s=STAGE_TIMEOUT_S,
            store=store,
        )


@pytest.fixture(scope="session")
def encode_png():
    """Write a picture as a PNG file."""

    def encode(pixels):
        file = BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    return encode


@pytest.fixture(scope="session")
def picture():
    """Make a picture of coloured blocks: `picture(width, height, seed)`."""

    def draw(width, height, seed=0):
        blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
        return blocks[rows][:, columns]

    return draw


@pytest.fixture(scope="session")
def image_file(picture, encode_png):
    """The picture that `body` sends unless it is told otherwise."""
    return encode_png(picture(300, 200))


@pytest.fixture(scope="session")
def body(cluster, picture, encode_png):
    """Build a request body: `body(question, route=..., stream=...)`."""

    def build(
        question="What is it?", *, size=(300, 200), seed=0, max_tokens=6, stream=False, **method
    ):
        url = "data:image/png;base64," + base64.b64encode(encode_png(picture(*size, seed))).decode()
        content = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": question},
        ]
        return {
            "model": cluster.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": max_tokens,
            "stream": stream,
            "qzoom": method,
        }

    return build


@dataclass
class RedisServer:
    """A redis-server of the test's own, on a socket in its folder; it keeps nothing on disk."""

    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def socket(self) -> str:
        return str(self.folder / "redis.sock")

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", ""],
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
        )
        deadline = time.monotonic() + REDIS_START_S
        while True:
            try:
                self.client().ping()
            except redis.exceptions.ConnectionError:
                assert time.monotonic() < deadline, "redis did not start"
                time.sleep(0.02)
            else:
                return

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=self.socket, socket_timeout=5)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


@pytest.fixture
def own_redis(tmp_path) -> Iterator[RedisServer]:
    """A server that a test may stop and start."""
    server = _redis(tmp_path)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory) -> Iterator[RedisServer]:
    """A server for all tests, each of which empties it."""
    server = _redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


def _redis(folder: Path) -> RedisServer:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (scripts/system-packages.sh)")
    server = RedisServer(folder)
    server.start()
    return server
