"""The policy on synthetic load, alone and inside Serve's own decision code."""

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ray.serve._private.common import DeploymentID
from ray.serve.autoscaling_policy import _apply_app_level_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from deploy.autoscaling import SHARE, FlowPolicy, learn_share, replicas_for

LOADS = st.floats(0, 1e4)


@dataclass
class Config:
    target_ongoing_requests: float | None = 4.0


@dataclass
class Context:
    deployment_name: str
    total_num_requests: float
    policy_state: dict[str, float] = field(default_factory=dict)
    config: Config = field(default_factory=Config)


def run(policy: FlowPolicy, trace: list[dict[str, float]]) -> list[dict[str, float]]:
    """Feed a trace of loads by deployment, keeping states as Serve does."""
    states: dict[str, dict[str, float]] = {}
    decisions = []
    for loads in trace:
        contexts = {name: Context(name, load, states.get(name, {})) for name, load in loads.items()}
        decided, states = policy(contexts)
        decisions.append(decided)
    return decisions


@given(st.none() | st.floats(0, 1), LOADS, LOADS, st.floats(0.001, 1))
def test_a_share_stays_a_share(previous, load, source, weight):
    assert 0.0 <= learn_share(previous, load, source, weight) <= 1.0


@example(load=0.0, predicted=5e-324, target=2.0)
@given(LOADS, LOADS, st.floats(0.1, 100))
def test_replicas_carry_the_larger_load_and_no_more(load, predicted, target):
    replicas = replicas_for(load, predicted, target)

    assert replicas * target >= max(load, predicted) * (1 - 1e-9)
    assert (replicas - 1) * target < max(load, predicted) or replicas == 0


@given(st.lists(st.tuples(LOADS, LOADS, LOADS), min_size=1, max_size=30))
def test_more_load_never_means_fewer_replicas_than_it_needs(trace):
    loads = [{"gateway": g, "gate": a, "llm": b} for g, a, b in trace]

    for load, decided in zip(loads, run(FlowPolicy(), loads), strict=True):
        for name, requests in load.items():
            assert decided[name] >= math.ceil(requests / 4.0)


def test_a_burst_grows_all_stages_at_once():
    """The llm is still idle when the burst is at the gateway, and is scaled all the same."""
    calm = [{"gateway": 10.0, "gate": 2.0, "llm": 6.0}] * 300
    burst = {"gateway": 100.0, "gate": 40.0, "llm": 6.0}

    decided = run(FlowPolicy(), [*calm, burst])[-1]

    assert decided["llm"] == pytest.approx(60 / 4, abs=1)


def test_a_gate_that_opens_more_often_raises_rpn_before_the_next_burst():
    seldom = [{"gateway": 40.0, "rpn": 2.0}] * 300
    often = [{"gateway": 40.0, "rpn": 8.0}] * 600
    burst = {"gateway": 400.0, "rpn": 8.0}

    before = run(FlowPolicy(), [*seldom, burst])[-1]["rpn"]
    after = run(FlowPolicy(), [*seldom, *often, burst])[-1]["rpn"]

    assert before == pytest.approx(20 / 4, abs=1)
    assert after == pytest.approx(80 / 4, abs=1)


def test_nothing_in_flight_asks_for_nothing_and_forgets_nothing():
    policy = FlowPolicy()
    states = {"gate": {SHARE: 0.25}}
    contexts = {
        "gateway": Context("gateway", 0.0),
        "gate": Context("gate", 0.0, states["gate"]),
    }

    decided, kept = policy(contexts)

    assert decided == {"gateway": 0, "gate": 0}
    assert kept["gate"][SHARE] == 0.25


def test_a_weight_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="weight"):
        FlowPolicy(0.0)


def serve_context(
    name: str, load: float, replicas: int, state: dict[str, float], now: float
) -> AutoscalingContext:
    """As Serve's controller makes it."""
    config = AutoscalingConfig(
        min_replicas=1, max_replicas=8, target_ongoing_requests=4,
        upscale_delay_s=0, downscale_delay_s=3600,
    )  # fmt: skip
    return AutoscalingContext(
        deployment_id=DeploymentID(name, "qzoom"), deployment_name=name, app_name="qzoom",
        current_num_replicas=replicas, target_num_replicas=replicas, running_replicas=[],
        total_num_requests=load, total_queued_requests=None, aggregated_metrics=None,
        raw_metrics=None, capacity_adjusted_min_replicas=1, capacity_adjusted_max_replicas=8,
        policy_state=state, last_scale_up_time=None, last_scale_down_time=None,
        current_time=now, config=config,
    )  # fmt: skip


def test_serve_calls_the_policy_and_keeps_its_state_and_its_own_delays():
    policy = _apply_app_level_autoscaling_config(FlowPolicy(weight=1.0))
    ids = {name: DeploymentID(name, "qzoom") for name in ("gateway", "llm")}
    states: dict[DeploymentID, dict[str, float]] = {}

    def decide(gateway: float, llm: float, replicas: int) -> dict[DeploymentID, int]:
        nonlocal states
        contexts = {
            ids["gateway"]: serve_context("gateway", gateway, 1, states.get(ids["gateway"], {}), 0),
            ids["llm"]: serve_context("llm", llm, replicas, states.get(ids["llm"], {}), 0),
        }
        decisions, states = policy(contexts)
        return decisions

    assert decide(gateway=8, llm=4, replicas=1)[ids["llm"]] == 1
    assert states[ids["llm"]][SHARE] == 0.5
    assert decide(gateway=32, llm=16, replicas=1)[ids["llm"]] == 4
    # Down only after Serve's own delay of an hour.
    assert decide(gateway=2, llm=1, replicas=4)[ids["llm"]] == 4
