"""Ways to the running system: by its flow in this process, by its handles, by its pictures."""

import time
import uuid
from contextlib import aclosing
from dataclasses import dataclass

import pytest
from ray import serve

from gateway.admission.admission import Admission
from gateway.admission.bounds import AdmissionBounds
from gateway.admission.desk import Desk
from gateway.events import Delta, Finished, Started
from gateway.fetch.fetcher import ImageFetcher
from gateway.flow import Flow
from gateway.images.decoder import ImageDecoder
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

    def __init__(self, application, encode_png):
        self.handles = handles_of(application)
        self._encode_png = encode_png
        self._images = ImageDecoder()
        self._telemetry = GatewayTelemetry()
        self._fetcher = ImageFetcher()
        self.desk = Desk(AdmissionBounds())
        self.flow = Flow(
            self.handles,
            Services(self.handles).facts,
            self._fetcher,
            self._images,
            Admission(self.desk, self._telemetry, "test"),
            self._telemetry,
        )

    def request(self, conversation, pictures, options=None, sampling=None):
        images = tuple(self._encode_png(picture) for picture in pictures)
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
        self._fetcher.close()
        self._telemetry.close()


@pytest.fixture(scope="session")
def flow_runner(encode_png):
    """Make the flow of an application: `flow_runner(application)`."""
    runners = []

    def make(application):
        runners.append(FlowRunner(application, encode_png))
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()


@pytest.fixture
def flow(cluster, flow_runner):
    """The flow on the session's cluster."""
    return flow_runner(cluster.application)
