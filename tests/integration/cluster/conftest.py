"""Ways to the running system: by its flow in this process, by its handles, by its pictures."""

import base64
import time
import uuid
from contextlib import aclosing
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from ray import serve

from gateway.events import Delta, Finished, Started
from gateway.flow import Flow
from gateway.images import ImageDecoder
from gateway.services import Services
from gateway.stages import Handles
from qzoom.contracts.options import Options
from qzoom.contracts.request import AnswerRequest
from qzoom.contracts.sampling import Sampling
from qzoom.telemetry.gateway import GatewayTelemetry

REQUEST_TIMEOUT_S = 60.0


def handles_of(application):
    return Handles(
        *(
            serve.get_deployment_handle(name, application)
            for name in ("encoder", "gate", "rpn", "llm")
        )
    )


@dataclass(frozen=True)
class FlowAnswer:
    """What came out of a flow."""

    started: Started
    text: str
    ids: tuple[int, ...]
    finished: Finished


class FlowRunner:
    """The gateway's own flow, run in the test's process on the services of one application."""

    def __init__(self, application):
        self.handles = handles_of(application)
        self._images = ImageDecoder()
        self._telemetry = GatewayTelemetry()
        self.flow = Flow(self.handles, Services(self.handles).facts, self._images, self._telemetry)

    def request(self, conversation, pictures, options=None, sampling=None):
        images = tuple(png(picture) for picture in pictures)
        return AnswerRequest(
            request_id=uuid.uuid4().hex,
            model="any",
            conversation=conversation,
            images=images,
            image_params=tuple(f"picture {i}" for i in range(len(images))),
            sampling=sampling or Sampling(),
            options=options or Options(),
            stream=True,
            deadline=time.time() + REQUEST_TIMEOUT_S,
            trace={},
        )

    async def answer(self, conversation, pictures, options=None, sampling=None):
        request = self.request(conversation, pictures, options, sampling)
        texts, ids = [], []
        async with aclosing(self.flow.run(request)) as events:
            async for event in events:
                match event:
                    case Started():
                        started = event
                    case Delta():
                        texts.append(event.text)
                        ids += event.ids
                    case Finished():
                        finished = event
        return FlowAnswer(started, "".join(texts), tuple(ids), finished)

    def close(self):
        self._images.close()
        self._telemetry.close()


@pytest.fixture(scope="session")
def flow_runner():
    """Make the flow of an application: `flow_runner(application)`."""
    runners = []

    def make(application):
        runners.append(FlowRunner(application))
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()


@pytest.fixture
def flow(cluster, flow_runner):
    """The flow on the session's cluster."""
    return flow_runner(cluster.application)


def png(picture):
    file = BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def picture():
    """Make a picture of coloured blocks: `picture(width, height, seed)`."""

    def draw(width, height, seed=0):
        blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
        return blocks[rows][:, columns]

    return draw


@pytest.fixture(scope="session")
def image_file(picture):
    """The picture that `body` sends unless it is told otherwise."""
    return png(picture(300, 200))


@pytest.fixture(scope="session")
def body(cluster, picture):
    """Build a request body: `body(question, route=..., stream=...)`."""

    def build(
        question="What is it?", *, size=(300, 200), seed=0, max_tokens=6, stream=False, **method
    ):
        url = "data:image/png;base64," + base64.b64encode(png(picture(*size, seed))).decode()
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
