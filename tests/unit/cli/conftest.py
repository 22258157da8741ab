"""The real REST edge on a socket, over a flow that answers from a script."""

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, Iterator

import numpy as np
import pytest
import uvicorn
from PIL import Image, ImageDraw

from gateway.app import Probes, create_app
from gateway.edge import Edge
from gateway.events import (
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
from qzoom.contracts.request import AnswerRequest
from qzoom.contracts.stages import Proposal, Timing
from qzoom.errors import Overloaded
from qzoom.telemetry.gateway import GatewayTelemetry
from qzoom.telemetry.names import Span


class ScriptedFlow:
    """Zooms with a fixed box, unless `direct` is asked for; refuses the question `refuse`."""

    def __init__(self) -> None:
        self.telemetry = GatewayTelemetry()

    async def run(self, request: AnswerRequest) -> AsyncGenerator[Event, None]:
        with self.telemetry.request(request.request_id, request.trace, request.model) as told:
            question = request.conversation[-1].parts[-1].text
            if question == "refuse":
                raise Overloaded("too much to do")
            with told.call(Span.GATE_PREFILL) as call:
                call.replied(Timing(0.001, 0.002, 1))
            is_zoom = request.options.route != "direct"
            told.gate_decided(0.9, 0.5, is_open=is_zoom)
            box = (2, 3, 30, 20)
            told.took_route("zoom" if is_zoom else "direct", Proposal(0, (0, 0, 1, 1), box, 0.8))
            heat = HeatMap(0, np.eye(4, dtype=np.float32)) if request.options.explain else None
            yield Started(
                route="zoom" if is_zoom else "direct",
                p_refine=0.9,
                tau_gate=0.5,
                regions=(Region(0, box, 0.8),) if is_zoom else (),
                visual_tokens=VisualTokens(36, 16 if is_zoom else 0, 0 if is_zoom else 16),
                trace_id=told.trace_id,
                budgets=Budgets(64, 48),
                heatmap=heat,
            )
            yield Delta("[42]", 2)
            yield Finished("stop", 50, 2, {"gate.prefill": StageMs(1.0, 2.0)})


class Server:
    def __init__(self, url: str) -> None:
        self.url = url


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    flow = ScriptedFlow()
    traces = flow.telemetry.traces

    async def unused():
        raise AssertionError

    async def unknown():
        return None

    async def trace(key, tenant):
        return traces.get(key, tenant).to_json()

    async def recent(limit, tenant):
        return [record.summary() for record in traces.recent(limit, tenant)]

    edge = Edge(flow, ("scripted",), flow.telemetry.log)
    probes = Probes(unknown, unused, unused, trace, recent, unused)
    app = create_app(edge, probes, behind_serve=False)
    http = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", lifespan="off"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(http.serve(sockets=[listener])))
    thread.start()
    yield Server(f"http://127.0.0.1:{listener.getsockname()[1]}")
    http.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def picture(tmp_path):
    """A file with a picture of 64x48 px."""
    image = Image.new("RGB", (64, 48), (250, 250, 250))
    ImageDraw.Draw(image).rectangle((5, 5, 25, 18), fill=(200, 30, 30))
    path = tmp_path / "picture.png"
    image.save(path)
    return path
