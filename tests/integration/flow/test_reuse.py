"""The gateway's flow on the four real services, without Ray between them.

Calls of a service run in this process; a message is pickled on its way, a reference holds its
object. The same on a real cluster: tests/integration/cluster/test_reuse.py.
"""

import asyncio
import dataclasses
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
from gateway.flow import Flow
from gateway.images.decoder import ImageDecoder
from gateway.memory import PictureMemory
from gateway.remote import ByReference, ByValue
from gateway.stages import Handles
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
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
DIRECT = Options(route="auto", tau_gate=1.0)
ZOOM = Options(route="auto", tau_gate=0.0, tau_roi=1e-6)
BUDGET = {
    "coarse_min_tokens": 16,
    "coarse_max_tokens": 32,
    "roi_min_tokens": 16,
    "roi_max_tokens": 32,
}
WHAT, WHY = single_question("What is it?"), single_question("Why is that so?")


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
        count = {**common, "count_work": True}
        settings = {
            "encoder": (EncoderDeployment, EncoderSettings(**common)),
            "gate": (GateDeployment, GateSettings(**count, trim=False)),
            "rpn": (RpnDeployment, RpnSettings(**count)),
            "llm": (LlmDeployment, LlmSettings(**count, trim=False, max_len=1024, max_slots=8)),
        }
        self.replicas = {}
        for name, (deployment, own) in settings.items():
            self.replicas[name] = deployment.func_or_class(own)
            self.replicas[name].deployment_name = name
        self.calls = Counter()
        self.sent = []
        self.by_value = []
        self.puts = 0

    def put(self, pixels):
        self.puts += 1
        return Reference(pixels)

    @asynccontextmanager
    async def streamed(self, handle, method, request, references, _patience, affinity, *, by_value):
        assert affinity, "requests about a picture have an affinity"
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

    def __init__(self, services, encode_png, reuse_bytes, by_value_bytes):
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
            memory=self.memory,
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
    """Make a gateway: `flow(reuse_bytes, by_value_bytes)`."""
    monkeypatch.setattr(gateway_stages, "streamed", local_services.streamed)
    monkeypatch.setattr(gateway_stages.ray, "put", local_services.put)
    made = []

    def build(reuse_bytes=10**8, by_value_bytes=0):
        made.append(FlowOnServices(local_services, encode_png, reuse_bytes, by_value_bytes))
        return made[-1]

    yield build
    for one in made:
        one.close()


async def cost(services, coroutine):
    """Run a request; return its result, its calls, and its pairs (token, layer)."""
    services.calls.clear()
    services.sent.clear()
    puts, before = services.puts, await services.work()
    result = await coroutine
    return result, dict(services.calls), services.puts - puts, (await services.work()) - before


@pytest.mark.parametrize(("name", "options"), [("direct", DIRECT), ("zoom", ZOOM)])
async def test_a_second_question_needs_no_picture(
    flow, picture, local_services, pipeline, name, options
):
    one, pixels = flow(), picture(300, 200, 300 + len(name))
    first, calls, puts, full = await cost(local_services, one.ask(WHAT, pixels, options))
    assert first[0] == list(pipeline.answer(WHAT, [pixels], options, GREEDY).ids)
    assert (calls["encode_coarse"], puts) == (1, 1)
    second, calls, puts, work = await cost(local_services, one.ask(WHY, pixels, options))
    expected = pipeline.answer(WHY, [pixels], options, GREEDY)
    assert (second[0], second[1].route) == (list(expected.ids), name)
    assert "encode_coarse" not in calls
    assert work["gate", "lower"] < full["gate", "lower"]
    assert work["llm", "upper"] < full["llm", "upper"]
    if name == "direct":
        assert calls == {"prefill": 1, "answer": 1}
        assert puts == 0
        # The gate's reply, its suffix, and the tokens: the block was not sent again.
        assert sum(hasattr(r.value, "nbytes") for r in local_services.sent) == 1
    assert {"encoder.coarse", "gate.prefill", "llm.resume"} <= set(second[2].stage_ms)


@pytest.mark.parametrize(("name", "options"), [("direct", DIRECT), ("zoom", ZOOM)])
@pytest.mark.parametrize("reuse_bytes", [0, 10**8])
async def test_small_state_travels_inside_messages(
    flow, picture, local_services, pipeline, name, options, reuse_bytes
):
    one, pixels = flow(reuse_bytes, by_value_bytes=10**8), picture(300, 200, 305 + len(name))
    for question in (WHAT, WHY):
        ids, started, _ = await one.ask(question, pixels, options)
        expected = pipeline.answer(question, [pixels], options, GREEDY)
        assert (ids, started.route) == (list(expected.ids), name)
    assert all(by_value for _, by_value in local_services.by_value)
    assert local_services.puts == 0
    assert not any(reference.num_opened for reference in local_services.sent)
    assert (one.memory.num_bytes > 0) is (reuse_bytes > 0)


async def test_what_is_kept_as_a_reference_never_travels_inside_a_message(
    flow, picture, local_services, pipeline
):
    by_reference, pixels = flow(), picture(300, 200, 315)
    await by_reference.ask(WHAT, pixels, DIRECT)
    # Another limit on the same memory: a request of another size.
    by_value = flow(by_value_bytes=10**8)
    by_value.flow._memory = by_reference.memory
    local_services.by_value.clear()
    ids, *_ = await by_value.ask(WHY, pixels, DIRECT)
    assert ids == list(pipeline.answer(WHY, [pixels], DIRECT, GREEDY).ids)
    assert local_services.by_value == [("prefill", False), ("answer", False)]


async def test_a_second_look_into_the_same_box_needs_neither_picture_nor_crop(
    flow, picture, local_services
):
    one, pixels = flow(), picture(300, 200, 310)
    first, *_ = await cost(local_services, one.ask(WHAT, pixels, ZOOM))
    again, calls, puts, _ = await cost(local_services, one.ask(WHAT, pixels, ZOOM))
    assert again[0] == first[0]
    assert calls == {"prefill": 1, "propose": 1, "answer": 1}
    assert puts == 0


async def test_a_gateway_that_holds_nothing_is_served_by_services_that_do(
    flow, picture, local_services
):
    pixels = picture(300, 200, 320)
    first, *_ = await cost(local_services, flow().ask(WHAT, pixels, ZOOM))
    other, calls, _, work = await cost(local_services, flow().ask(WHAT, pixels, ZOOM))
    assert other[0] == first[0]
    assert calls["encode_coarse"] == calls["encode_roi"] == 1
    prompt_tokens = other[2].prompt_tokens
    assert 0 < work["gate", "lower"] < prompt_tokens
    assert 0 < work["llm", "upper"] < prompt_tokens * 4


async def test_tenants_share_nothing(flow, picture, local_services):
    one, pixels = flow(), picture(300, 200, 330)
    first, calls, puts, work = await cost(local_services, one.ask(WHAT, pixels, ZOOM, "a"))
    other, its_calls, its_puts, its_work = await cost(
        local_services, one.ask(WHAT, pixels, ZOOM, "b")
    )
    assert other[0] == first[0]
    assert (its_calls, its_puts, its_work) == (calls, puts, work)


@pytest.mark.parametrize("options", [DIRECT, ZOOM])
async def test_what_has_died_is_computed_again_and_forgotten(
    flow, picture, local_services, options
):
    one, pixels = flow(), picture(300, 200, 340 if options is ZOOM else 341)
    first, *_ = await cost(local_services, one.ask(WHAT, pixels, options))
    kept = [reference for reference in local_services.sent if hasattr(reference.value, "nbytes")]
    for reference in kept:
        reference.is_lost = True
    # The llm of another replica, which does not hold the picture, opens what has died.
    for name in ("gate", "rpn", "llm", "encoder"):
        forget(local_services.replicas[name]._service)
    again = await one.ask(WHAT, pixels, options)
    assert again[0] == first[0]
    again, calls, *_ = await cost(local_services, one.ask(WHAT, pixels, options))
    assert again[0] == first[0]
    assert "encode_coarse" not in calls


def forget(service):
    """Empty a service's cache, as a new replica's is."""
    cache = getattr(service, "_prefixes", None) or service._cache
    lru = getattr(cache, "_blocks", cache)
    for key in list(lru._values):
        lru.discard(key)


async def test_a_gateway_that_may_keep_nothing_keeps_nothing(flow, picture, local_services):
    one, pixels = flow(0), picture(300, 200, 350)
    first, *_ = await cost(local_services, one.ask(WHAT, pixels, ZOOM))
    again, calls, *_ = await cost(local_services, one.ask(WHAT, pixels, ZOOM))
    assert again[0] == first[0]
    assert (calls["encode_coarse"], calls["encode_roi"]) == (1, 1)
    assert one.memory.num_bytes == 0


async def test_questions_together_share_and_answer_as_alone(
    flow, picture, local_services, pipeline
):
    one, pixels = flow(), picture(300, 200, 360)
    questions = [single_question(f"What is the number {i}?") for i in range(5)]
    asked = [one.ask(q, pixels, o) for q in questions for o in (DIRECT, ZOOM)]
    answers, _, _, work = await cost(local_services, asyncio.gather(*asked))
    expected = [
        list(pipeline.answer(q, [pixels], o, GREEDY).ids) for q in questions for o in (DIRECT, ZOOM)
    ]
    assert [ids for ids, *_ in answers] == expected
    split = pipeline.checkpoint.qzoom.split_layer
    coarse = answers[0][2].prompt_tokens  # of a direct answer
    visual = answers[0][1].visual_tokens.coarse
    assert work["gate", "lower"] < (coarse + 9 * (coarse - visual)) * split + 50 * split


async def test_the_waterfall_says_what_was_reused(flow, picture):
    one, pixels = flow(), picture(300, 200, 370)
    await one.ask(WHAT, pixels, DIRECT)
    _, started, _ = await one.ask(WHY, pixels, DIRECT)
    spans = {span.name: span for span in one.telemetry.traces.get(started.trace_id).spans}
    assert spans["encoder.coarse"].reused_tokens == started.visual_tokens.coarse
    assert spans["gate.prefill"].reused_tokens >= started.visual_tokens.coarse
    assert spans["llm.resume"].reused_tokens >= started.visual_tokens.coarse
    assert dataclasses.asdict(spans["gate.prefill"])["reused_tokens"] > 0
