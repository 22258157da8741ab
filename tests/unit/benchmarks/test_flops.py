"""What is counted is what is executed, and the method's stages do no more than they must."""

import pytest
import torch

from benchmarks.flops import count
from benchmarks.models import block_picture, method_size
from benchmarks.stages import branch_share
from benchmarks.walk import STAGES, walk
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.model.pipeline import Pipeline
from qzoom.model.random_checkpoint import write_random_checkpoint

BUDGET = {"coarse_min_tokens": 16, "coarse_max_tokens": 36, "roi_min_tokens": 4}
NUM_TOKENS = 4


class Counter:
    def __init__(self):
        self.flops = {}

    def __call__(self, stage, work):
        held = []
        self.flops[stage] = count(lambda: held.append(work()))
        return held[0]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("random")
    write_random_checkpoint(folder, "qwen2_5_vl", **BUDGET)
    return Pipeline.open(folder)


def test_products_and_attention_are_counted():
    one, other = torch.ones(3, 5), torch.ones(5, 7)
    assert count(lambda: one @ other) == 2 * 3 * 5 * 7
    q, k = torch.ones(1, 2, 4, 8), torch.ones(1, 2, 6, 8)
    with torch.inference_mode():
        attended = count(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, k))
    assert attended == 2 * (2 * 2 * 4 * 6 * 8)


@pytest.mark.parametrize("route", ["direct", "zoom"])
def test_every_stage_does_what_the_method_needs_and_no_more(pipeline, route):
    counter = Counter()
    walked = walk(
        pipeline,
        block_picture(300, 200),
        single_question("What is it?"),
        Options(route=route, tau_roi=0.02),
        batch=1,
        max_tokens=NUM_TOKENS,
        observe=counter,
    )
    assert walked.route == route
    size = method_size(pipeline.checkpoint, walked.coarse_grid, walked.prompt_tokens, NUM_TOKENS)
    tail = walked.sequence_tokens - walked.prefix_tokens
    least = (
        size.direct()
        if walked.roi_grid is None
        else size.zoom(walked.roi_grid, tail, walked.sequence_tokens)
    )
    assert list(counter.flops) == [stage for stage in STAGES if stage in least]
    for stage, flops in least.items():
        assert counter.flops[stage] == pytest.approx(flops, rel=0.05), stage


def test_the_walk_answers_as_the_pipeline(pipeline):
    question, picture = single_question("What is it?"), block_picture(300, 200)
    options = Options(route="zoom", tau_roi=0.02)
    walked = walk(
        pipeline, picture, question, options, batch=2, max_tokens=NUM_TOKENS, observe=Counter()
    )
    answer = pipeline.answer(question, [picture], options, Sampling(max_tokens=NUM_TOKENS))
    assert walked.ids[: len(answer.ids)] == answer.ids
    assert walked.sequence_tokens == answer.num_prompt_tokens


def test_gate_and_rpn_cost_a_seventh_of_the_paper_s_decoder():
    assert branch_share() == pytest.approx(0.144, abs=0.002)
