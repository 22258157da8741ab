"""A gateway's edge on real sockets, over a small flow of its own that echoes what it was asked."""

import asyncio
import base64
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO

import grpc
import numpy as np
import pytest
import uvicorn
from grpc_reflection.v1alpha import reflection
from PIL import Image

from gateway.access.access import Access
from gateway.access.settings import AccessSettings
from gateway.app import Probes, create_app
from gateway.edge import Edge
from gateway.events import (
    Brownout,
    Budgets,
    Delta,
    Event,
    Finished,
    HeatMap,
    Region,
    StageMs,
    Started,
    VisualTokens,
)
from gateway.fetch.fetcher import ImageFetcher
from gateway.images.decoder import ImageDecoder
from gateway.rpc.methods import QZoomMethods
from gateway.rpc.servicer import add_servicer
from qzoom.contracts.conversation import Text
from qzoom.contracts.request import AnswerRequest
from qzoom.errors import NotFound, Overloaded, Unavailable
from qzoom.pb import qzoom_pb2, qzoom_pb2_grpc
from qzoom.telemetry.gateway import GatewayTelemetry
from qzoom.telemetry.logs import EventLog

MODEL = "echo"
MESSAGE_LIMIT = 32 * 1024 * 1024
START_TIMEOUT_S = 120


@dataclass
class EchoFlow:
    """Decodes the pictures as the real flow does, then answers with what it was asked.

    The question steers it: `hang` waits until it is cancelled, `refuse` fails before the first
    event, `break` after the first token, `bug` has a defect.
    """

    fetcher: ImageFetcher = field(default_factory=ImageFetcher)
    decoder: ImageDecoder = field(default_factory=ImageDecoder)
    live: int = 0
    requests: list[AnswerRequest] = field(default_factory=list)

    async def run(self, request: AnswerRequest) -> AsyncGenerator[Event, None]:
        self.live += 1
        self.requests.append(request)
        try:
            async for event in self._events(request):
                yield event
        finally:
            self.live -= 1

    def close(self) -> None:
        self.decoder.close()
        self.fetcher.close()

    async def _events(self, request: AnswerRequest) -> AsyncGenerator[Event, None]:
        images = await self.decoder.decode(await self.fetcher.fetch(request))
        parts = request.conversation[-1].parts
        question = " ".join(part.text for part in parts if isinstance(part, Text))
        if question == "refuse":
            raise Overloaded("the queue has 8 requests, at most 8", retry_after_s=3)
        if question == "bug":
            raise ZeroDivisionError("secret detail")
        if question == "hang early":
            await asyncio.sleep(3600)
        zoom = request.options.route == "zoom"
        width, height = images[0].size_px
        yield Started(
            route="zoom" if zoom else "direct",
            p_refine=0.75 if request.options.route == "auto" else None,
            tau_gate=request.options.tau_gate,
            regions=(Region(0, (0, 0, width, height), 0.5),) if zoom else (),
            visual_tokens=VisualTokens(coarse=36, roi=9 if zoom else 0, spared=0 if zoom else 9),
            trace_id="0" * 31 + "1",
            budgets=Budgets(coarse=64, roi=48),
            brownout=Brownout(2, ("tau_gate",)) if question == "brown" else None,
            heatmap=HeatMap(0, np.full((2, 3), 0.25, np.float32))
            if request.options.explain
            else None,
        )
        sizes = ", ".join("{}x{}".format(*image.size_px) for image in images)
        words = f"{question[:200]} [{sizes}]".split(" ")[: request.sampling.max_tokens]
        for i, word in enumerate(words):
            if i == 1 and question.startswith("break"):
                raise Unavailable("the llm service is gone")
            if i == 1 and question.startswith("hang"):
                await asyncio.sleep(3600)
            yield Delta(word if i == 0 else f" {word}", 1)
        yield Finished("stop", 40, len(words), {"gate.prefill": StageMs(0.5, 2.0)}, None)


class EchoGateway(QZoomMethods):
    """What Serve's ingress class is in production."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge


class Servicer(qzoom_pb2_grpc.QZoomServicer):
    """Calls the methods as Serve does: by name, the context as `grpc_context`."""

    def __init__(self, gateway: EchoGateway) -> None:
        self._gateway = gateway

    async def Answer(self, request, context):  # noqa: N802
        return await self._gateway.Answer(request, grpc_context=context)

    async def UploadAndAnswer(self, request_iterator, context):  # noqa: N802
        return await self._gateway.UploadAndAnswer(request_iterator, grpc_context=context)

    async def AnswerStream(self, request, context):  # noqa: N802
        async for event in self._gateway.AnswerStream(request, grpc_context=context):
            yield event


@dataclass(frozen=True)
class EdgeServer:
    url: str
    grpc_address: str
    flow: EchoFlow


async def _model() -> dict[str, object]:
    return {"tau_gate": 0.5}


async def _ready() -> dict[str, object]:
    return {"status": "ready"}


async def _metrics() -> str:
    return "qzoom_requests_total 1\n"


async def _trace(trace_id: str, tenant: str | None) -> dict[str, object]:
    del tenant
    if trace_id != "0" * 31 + "1":
        raise NotFound("no recent trace")
    return {"trace_id": trace_id}


async def _stats(window_s: float) -> dict[str, object]:
    return {"object": "stats", "window_s": window_s}


async def _traces(limit: int, tenant: str | None) -> list[dict[str, object]]:
    del tenant
    return [{"trace_id": "0" * 31 + "1"}][:limit]


async def _visual_cost(_request: AnswerRequest) -> int:
    return 40


@contextmanager
def _serve(flow: EchoFlow, settings: AccessSettings | None = None) -> Iterator[EdgeServer]:
    """Run both edges in the event loop of one thread, behind access if there are settings."""
    probes = Probes(_model, _ready, _metrics, _trace, _traces, _stats)
    listener = socket.create_server(("127.0.0.1", 0))
    grpc_port: list[int] = []
    servers: list[uvicorn.Server] = []
    started = threading.Event()

    async def main() -> None:
        edge = Edge(flow, (MODEL,), EventLog("gateway"))
        access = None
        if settings is not None:
            access = Access(settings, GatewayTelemetry())
            answers = access.around(flow, _visual_cost)
            edge = replace(edge, flow=answers, identify=access.identify)
        app = create_app(edge, probes, behind_serve=False)
        config = uvicorn.Config(app, log_level="warning", ws="none", lifespan="off")
        servers.append(uvicorn.Server(config))
        rpc = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MESSAGE_LIMIT),
                ("grpc.so_reuseport", 0),
            ]
        )
        add_servicer(Servicer(EchoGateway(edge)), rpc)
        service = qzoom_pb2.DESCRIPTOR.services_by_name["QZoom"].full_name
        reflection.enable_server_reflection((service, reflection.SERVICE_NAME), rpc)
        grpc_port.append(rpc.add_insecure_port("127.0.0.1:0"))
        await rpc.start()
        started.set()
        await servers[0].serve(sockets=[listener])
        await rpc.stop(grace=0)
        if access is not None:
            access.close()
            assert access._closing is not None
            await access._closing

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert started.wait(START_TIMEOUT_S)
    port = listener.getsockname()[1]
    yield EdgeServer(f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port[0]}", flow)
    servers[0].should_exit = True
    thread.join(START_TIMEOUT_S)
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def edge_server() -> Iterator[EdgeServer]:
    with _serve_flow() as server:
        yield server


@pytest.fixture(scope="session")
def serve_flow() -> Callable[..., AbstractContextManager[EdgeServer]]:
    """Serve over a flow of given parts: `with serve_flow(fetcher=...) as server`."""
    return _serve_flow


@contextmanager
def _serve_flow(**parts: ImageFetcher | ImageDecoder) -> Iterator[EdgeServer]:
    flow = EchoFlow(**parts)
    with _serve(flow) as server:
        yield server
    flow.close()


@pytest.fixture
def serve_edge() -> Iterator[Callable[[AccessSettings], EdgeServer]]:
    """Serve behind access: `serve_edge(AccessSettings(...))`."""
    with ExitStack() as stack:

        def start(settings: AccessSettings) -> EdgeServer:
            flow = EchoFlow()
            stack.callback(flow.close)
            return stack.enter_context(_serve(flow, settings))

        yield start


@pytest.fixture
def picture() -> bytes:
    """A PNG of 64x48 px."""
    return encode(Image.new("RGB", (64, 48), (200, 30, 30)))


@pytest.fixture
def ask(picture: bytes) -> Callable[..., dict]:
    """Build a REST body: one picture and a question."""

    def build(question: str = "what is this?", image: bytes | None = None, **fields) -> dict:
        content = [
            {"type": "image_url", "image_url": {"url": data_url(image or picture)}},
            {"type": "text", "text": question},
        ]
        return {"model": MODEL, "messages": [{"role": "user", "content": content}]} | fields

    return build


def encode(image: Image.Image, image_format: str = "PNG", **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
