"""Clients and operators can see what the model does where a request leaves it open."""

import asyncio
from dataclasses import replace

import pytest

from gateway import describe
from gateway.admission.brownout import BrownoutBounds
from gateway.describe import described
from qzoom.contracts.budget import ImageRules
from qzoom.contracts.status import ModelFacts
from qzoom.errors import Unavailable

FACTS = ModelFacts(
    "qwen2_5_vl",
    "abc",
    has_gate=True,
    has_rpn=True,
    tau_gate=0.5,
    tau_roi=0.1,
    cell_px=28,
    rules=ImageRules(28, None, fetch_resize=False, min_tokens=16, max_tokens=64),
    max_roi_tokens=48,
    kv_bytes_per_token=1,
    visual_bytes_per_token=1,
    state_bytes_per_token=1,
    accuracy_by_tau=((0.0, 0.8), (0.5, 0.8), (0.7, 0.79), (1.0, 0.6)),
)


def tell(facts, bounds):
    async def known():
        return facts

    return asyncio.run(described(known, bounds))


def test_thresholds_budgets_and_the_last_step_of_brown_out():
    assert tell(FACTS, BrownoutBounds(steps=3, max_loss=0.01, min_roi_share=0.5)) == {
        "family": "qwen2_5_vl",
        "revision": "abc",
        "tau_gate": 0.5,
        "tau_roi": 0.1,
        "budgets": {"max_visual_tokens": 64, "max_roi_tokens": 48},
        "brownout": {
            "steps": 3,
            "max_tau_gate": 0.7,
            "max_tau_gate_from": "calibration",
            "max_loss": 0.01,
            "min_roi_tokens": 24,
        },
    }


@pytest.mark.parametrize(
    ("facts", "bounds", "source", "highest"),
    [
        (FACTS, BrownoutBounds(max_tau_gate=0.8), "operator", 0.8),
        (replace(FACTS, accuracy_by_tau=()), BrownoutBounds(), "default", 0.9),
        (replace(FACTS, has_gate=False), BrownoutBounds(), None, None),
    ],
)
def test_where_the_bound_comes_from(facts, bounds, source, highest):
    shed = tell(facts, bounds)["brownout"]
    assert (shed["max_tau_gate_from"], shed["max_tau_gate"]) == (source, highest)


def test_no_brown_out_has_no_bounds():
    assert tell(FACTS, BrownoutBounds(steps=0))["brownout"] is None


def test_nobody_waits_for_a_service_that_is_away(monkeypatch):
    monkeypatch.setattr(describe, "PATIENCE_S", 0.01)

    async def silent():
        await asyncio.Event().wait()

    async def away():
        raise Unavailable("the gate service does not answer")

    assert asyncio.run(described(silent, BrownoutBounds())) is None
    assert asyncio.run(described(away, BrownoutBounds())) is None
