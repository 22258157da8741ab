"""What a request will cost is known from its pictures' headers."""

import pytest

from gateway.admission.cost import predict
from gateway.admission.times import StageTimes
from qzoom.contracts.budget import ImageRules
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.status import ModelFacts
from qzoom.telemetry.names import Span

FACTS = ModelFacts(
    "qwen2_5_vl",
    "0",
    True,
    True,
    tau_gate=0.5,
    tau_roi=0.1,
    cell_px=28,
    rules=ImageRules(28, None, fetch_resize=False, min_tokens=16, max_tokens=64),
    max_roi_tokens=48,
    kv_bytes_per_token=1000,
    visual_bytes_per_token=10,
    state_bytes_per_token=100,
)
QUESTION = single_question("x" * 30)
TEXT_TOKENS = 18


@pytest.mark.parametrize(
    ("options", "roi"),
    [
        (Options(), 48),
        (Options(route="zoom", max_roi_tokens=12), 12),
        (Options(route="direct", max_roi_tokens=12), 0),
    ],
)
def test_visual_tokens_count_the_roi_where_there_may_be_one(options, roi):
    cost = predict([(140, 140), (280, 28)], QUESTION, 5, options, FACTS)
    # 5 x 5 cells; 10 x 1 cells are enlarged to at least 16.
    assert cost.visual_tokens == 25 + 26 + roi
    assert cost.positions == cost.visual_tokens + TEXT_TOKENS + 5
    assert cost.kv_bytes == 1000 * cost.positions
    pixels = 3 * (140 * 140 + 280 * 28)
    prompt = cost.visual_tokens + TEXT_TOKENS
    assert cost.store_bytes == pixels + 10 * cost.visual_tokens + 100 * prompt


def test_a_smaller_budget_costs_less():
    small = predict([(1000, 1000)], QUESTION, 5, Options(max_visual_tokens=16), FACTS)
    large = predict([(1000, 1000)], QUESTION, 5, Options(), FACTS)
    assert small.visual_tokens < large.visual_tokens <= 64 + 48


def test_stage_times_give_the_time_that_a_request_takes_at_least():
    times = StageTimes()
    assert times.least_s("auto") == 0.0
    for i in range(100):
        times.observe(Span.GATE_PREFILL, 0.1 + 0.01 * (i % 10))
        times.observe(Span.RPN_PROPOSE, 1.0)
        times.observe(Span.LLM_DECODE, 50.0)
    assert 0.1 <= times.least_s("auto") < 0.13
    assert times.least_s("zoom") == pytest.approx(1.0 + times.least_s("direct"))
