"""The gateway's flow on the four real services, without Ray between them.

Calls of a service run in this process; a message is pickled on its way, a reference holds its
object. The same on a real cluster: tests/integration/cluster/test_reuse.py.
"""

import pickle
import time
from collections import Counter
from contextlib import aclosing, asynccontextmanager

import pytest

from gateway import stages as gateway_stages
from gateway.admission.admission import Admission
from gateway.admission.bounds import AdmissionBounds
from gateway.admission.desk import Desk
from gateway.events import Delta, Finished, Started
from gateway.fetch.fetcher import ImageFetcher
from gateway.flow import Conduct, Flow
from gateway.images.decoder import ImageDecoder
from gateway.memory import PictureMemory
from gateway.remote import ByReference, ByValue
from gateway.stages import Handles
from qzoom.contracts.request import AnswerRequest
from qzoom.contracts.sampling import Sampling
from qzoom.errors import StateLost
from qzoom.model.pipeline import Pipeline
from qzoom.model.random_checkpoint import write_random_checkpoint
from qzoom.telemetry.gateway import GatewayTelemetry
from services.encoder.deployment import EncoderDeployment
from services.encoder.settings import EncoderSettings
from services.gate.deployment import GateDeployment
from services.gate.settings import GateSettings
from services.llm.deployment import LlmDeployment
from services.llm.settings import LlmSettings
from services.rpn.deployment import RpnDeployment
from services.rpn.settings import RpnSettings

SOON_S = 120.0
GREEDY = Sampling(max_tokens=5)
MAX_LEN = 1024
BUDGET = {
    "coarse_min_tokens": 16,
    "coarse_max_tokens": 32,
    "roi_min_tokens": 16,
    "roi_max_tokens": 32,
}


class Reference:
    """Holds an object as a `ray.ObjectRef` does, until it is lost."""

    def __init__(self, value):
        self.value = value
        self.is_lost = False
        self.num_opened = 0

    def __await__(self):
        async def read():
            if self.is_lost:
                raise StateLost("the state of the request was lost")
            self.num_opened += 1
            return self.value

        return read().__await__()


class LocalServices:
    """The four deployments in this process."""

    def __init__(self, checkpoint):
        common = {"checkpoint": checkpoint, "threads": 1}
        count, room = {**common, "count_work": True}, {"max_prompt_tokens": MAX_LEN - 1}
        settings = {
            "encoder": (EncoderDeployment, EncoderSettings(**common)),
            "gate": (
                GateDeployment,
                GateSettings(**count, **room, trim=False),
            ),
            "rpn": (RpnDeployment, RpnSettings(**count)),
            "llm": (LlmDeployment, LlmSettings(**count, trim=False, max_len=MAX_LEN, max_slots=8)),
        }
        self.replicas = {}
        for name, (deployment, own) in settings.items():
            self.replicas[name] = deployment.func_or_class(own)
            self.replicas[name].deployment_name = name
        self.calls = Counter()
        self.sent = []
        self.by_value = []
        self.affinities = []
        self.puts = 0

    def put(self, pixels):
        self.puts += 1
        return Reference(pixels)

    @asynccontextmanager
    async def streamed(self, handle, method, request, references, _patience, affinity, *, by_value):
        self.affinities.append(affinity)
        self.calls[method] += 1
        self.by_value.append((method, by_value))
        are_here = [not isinstance(one, Reference) for one in references]
        assert all(are_here) or not by_value, "a reference inside a message is pinned for ever"
        message = pickle.loads(pickle.dumps(request))
        generator = getattr(handle, method)(message, list(references))

        async def results():
            async for value in generator:
                self.sent.append(Reference(value))
                yield value if by_value else self.sent[-1]

        async with aclosing(generator), aclosing(results()) as found:
            yield ByValue(found) if by_value else ByReference(found)

    async def work(self):
        totals = Counter()
        for name in ("gate", "rpn", "llm"):
            for (stack, _), count in (await self.replicas[name].work()).items():
                totals[name, stack] += count
        return totals


class FlowOnServices:
    """One gateway's flow, and what each request cost."""

    def __init__(self, services, encode_png, reuse_bytes, by_value_bytes, speculates):
        self.services, self._encode_png = services, encode_png
        self.images, self.telemetry = ImageDecoder(), GatewayTelemetry()
        self.fetcher = ImageFetcher()
        self.memory = PictureMemory(reuse_bytes)
        self.flow = Flow(
            Handles(**services.replicas, by_value_bytes=by_value_bytes),
            services.replicas["gate"].facts,
            self.fetcher,
            self.images,
            Admission(Desk(AdmissionBounds()), self.telemetry, "test"),
            self.telemetry,
            Conduct(speculates=speculates),
            self.memory,
        )

    async def ask(self, conversation, picture, options, tenant="t", stream=False):
        """Answer one request; return its events' ids, `Started`, `Finished`."""
        request = AnswerRequest(
            request_id=str(time.monotonic_ns()),
            model="any",
            conversation=conversation,
            images=(self._encode_png(picture),),
            image_params=("picture",),
            sampling=GREEDY,
            options=options,
            stream=stream,
            deadline=time.time() + SOON_S,
            trace={},
            tenant=tenant,
        )
        ids = []
        async with aclosing(self.flow.run(request)) as events:
            async for event in events:
                match event:
                    case Started():
                        started = event
                    case Delta():
                        ids += event.ids
                    case Finished():
                        finished = event
        return ids, started, finished

    def close(self):
        self.images.close()
        self.fetcher.close()
        self.telemetry.close()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flow") / "random"
    write_random_checkpoint(folder, "qwen2_5_vl", **BUDGET)
    return folder


@pytest.fixture
def local_services(checkpoint):
    """New ones for every test: their queues belong to its event loop."""
    services = LocalServices(checkpoint)
    yield services
    for replica in services.replicas.values():
        replica.__del__()


@pytest.fixture(scope="module")
def pipeline(checkpoint):
    return Pipeline.open(checkpoint)


@pytest.fixture
def flow(local_services, encode_png, monkeypatch):
    """Make a gateway: `flow(reuse_bytes, by_value_bytes, speculates=...)`."""
    monkeypatch.setattr(gateway_stages, "streamed", local_services.streamed)
    monkeypatch.setattr(gateway_stages.ray, "put", local_services.put)
    made = []

    def build(reuse_bytes=10**8, by_value_bytes=0, *, speculates=False):
        one = FlowOnServices(local_services, encode_png, reuse_bytes, by_value_bytes, speculates)
        made.append(one)
        return one

    yield build
    for one in made:
        one.close()
