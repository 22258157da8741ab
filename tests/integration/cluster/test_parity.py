"""The services compute what the pipeline in one process computes, token for token."""

import asyncio
from dataclasses import dataclass

import pytest
import torch
from ray import serve

from deploy.app import build
from deploy.config import AppConfig
from qzoom.contracts.conversation import Picture, Text, Turn, single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.model.pipeline import Pipeline
from qzoom.model.random_checkpoint import write_random_checkpoint

pytestmark = [pytest.mark.cluster, pytest.mark.parity]
FAMILIES = ("qwen2_5_vl", "qwen3_vl", "llava")
START_TIMEOUT_S = 200.0
GATE_ATOL = 1e-6
NUM_BF16 = 24
MANY_TURNS = (
    Turn("user", (Picture(0), Text("What is this?"))),
    Turn("assistant", (Text("A red box."),)),
    Turn("user", (Text("And here, "), Picture(1), Text("what is written on it?"))),
)
GREEDY = Sampling(max_tokens=8)
LOW_TAU = {"tau_roi": 0.05}


@dataclass(frozen=True)
class Case:
    conversation: tuple[Turn, ...]
    sizes: tuple[tuple[int, int], ...]
    options: Options
    route: str
    sampling: Sampling = GREEDY


WHAT = single_question("What is the code?")
CASES = {
    "direct": Case(WHAT, ((300, 140),), Options(route="direct"), "direct"),
    "zoom": Case(WHAT, ((300, 140),), Options(route="zoom", **LOW_TAU), "zoom"),
    "gate opens": Case(WHAT, ((211, 333),), Options(tau_gate=0.0, **LOW_TAU), "zoom"),
    "gate stays closed": Case(WHAT, ((211, 333),), Options(tau_gate=1.0), "direct"),
    "no box": Case(WHAT, ((120, 90),), Options(route="zoom", tau_roi=0.999), "direct"),
    "drawn tokens": Case(
        single_question("Why is that so, and since when?"),
        ((200, 200),),
        Options(route="zoom", **LOW_TAU),
        "zoom",
        Sampling(max_tokens=8, temperature=1.0, top_p=0.9, seed=7),
    ),
    "two pictures in two turns": Case(
        MANY_TURNS, ((160, 120), (90, 200)), Options(route="zoom", **LOW_TAU), "zoom"
    ),
    "no picture": Case((Turn("user", (Text("Who are you?"),)),), (), Options(), "direct"),
}


@pytest.fixture(scope="module", params=FAMILIES)
def twins(request, cluster, tmp_path_factory, flow_runner):
    """One model twice: as a pipeline in this process, and as an application on the cluster."""
    family = request.param
    torch.set_num_threads(1)
    if family == "qwen2_5_vl":
        yield Pipeline.open(cluster.checkpoint), flow_runner(cluster.application)
        return
    folder = tmp_path_factory.mktemp(family)
    budget = {} if family == "llava" else cluster.budget
    write_random_checkpoint(folder, family, **budget)
    threads = {"threads": 1}
    llm = {**threads, "max_slots": 8, "max_len": 2048}
    config = AppConfig(model=folder, encoder=threads, gate=threads, rpn=threads, llm=llm)
    serve.run(build(config), name=family, route_prefix=f"/{family}")
    yield Pipeline.open(folder), flow_runner(family)
    serve.delete(family)


@pytest.fixture
def pictures(picture):
    def draw(case):
        return [picture(*size, seed) for seed, size in enumerate(case.sizes)]

    return draw


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", CASES)
async def test_services_equal_the_pipeline(twins, pictures, name):
    pipeline, flow = twins
    case = CASES[name]
    answer = await flow.answer(case.conversation, pictures(case), case.options, case.sampling)
    assert answer.started.route == case.route
    assert_equal(answer, expected(pipeline, case, pictures(case)))


async def test_requests_in_one_batch_equal_requests_alone(twins, pictures):
    pipeline, flow = twins
    cases = list(CASES.values()) * 2
    answers = await asyncio.gather(
        *(flow.answer(c.conversation, pictures(c), c.options, c.sampling) for c in cases)
    )
    for case, answer in zip(cases, answers, strict=True):
        assert_equal(answer, expected(pipeline, case, pictures(case)))


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_most_answers_are_equal_in_bfloat16(
    cluster, flow_runner, picture, record_testsuite_property
):
    """Batches round differently in bf16, so equality is reported and only bounded from below."""
    torch.set_num_threads(1)
    threads = {"threads": 1}
    llm = {**threads, "max_slots": 8, "max_len": 1024}
    config = AppConfig(
        model=cluster.checkpoint,
        dtype="bfloat16",
        encoder=threads,
        gate=threads,
        rpn=threads,
        llm=llm,
    )
    serve.run(build(config), name="bf16", route_prefix="/bf16")
    try:
        flow = flow_runner("bf16")
        pipeline = Pipeline.open(cluster.checkpoint, dtype=torch.bfloat16)
        pictures = [picture(200 + 10 * i, 160, seed=i) for i in range(NUM_BF16)]
        options = Options(route="zoom", **LOW_TAU)
        answers = await asyncio.gather(
            *(flow.answer(WHAT, [one], options, GREEDY) for one in pictures)
        )
        references = [pipeline.answer(WHAT, [one], options, GREEDY) for one in pictures]
    finally:
        serve.delete("bf16")
    equal = [a.ids == r.ids for a, r in zip(answers, references, strict=True)]
    record_testsuite_property("bf16_share_of_equal_answers", sum(equal) / NUM_BF16)
    assert sum(equal) >= NUM_BF16 / 2


def expected(pipeline, case, images):
    return pipeline.answer(case.conversation, images, case.options, case.sampling)


def assert_equal(answer, reference):
    assert answer.ids == reference.ids
    assert answer.text == reference.text
    assert answer.finished.finish_reason == reference.finish
    assert answer.finished.prompt_tokens == reference.num_prompt_tokens
    assert answer.finished.degraded is None
    assert answer.started.route == reference.route
    assert answer.started.visual_tokens.coarse == reference.num_coarse_tokens
    assert answer.started.visual_tokens.roi == reference.num_roi_tokens
    if answer.started.p_refine is not None:
        assert answer.started.p_refine == pytest.approx(reference.p_refine, abs=GATE_ATOL)
    boxes = [region.box_px for region in answer.started.regions]
    assert boxes == ([reference.proposal.box_px] if reference.proposal else [])
