"""What does the model do where a request leaves it open, and how far may load change that?"""

import asyncio
from typing import Any

from gateway.access.prediction import Facts
from gateway.admission.brownout import BrownoutBounds, highest_tau, roi_tokens
from qzoom.contracts.status import ModelFacts
from qzoom.errors import Unavailable

PATIENCE_S = 1.0
"""Who lists models does not wait for a service that is on its way."""


async def described(facts: Facts, bounds: BrownoutBounds) -> dict[str, Any] | None:
    """Describe the model for clients and operators.

    Args:
        facts: Tells what the gateway knows about the model.
        bounds: Of brown-out.

    Returns:
        The `qzoom` object of a model; None while nobody knows.
    """
    try:
        async with asyncio.timeout(PATIENCE_S):
            known = await facts()
    except (TimeoutError, Unavailable):
        return None
    return {
        "family": known.family,
        "revision": known.revision,
        "tau_gate": known.tau_gate if known.has_gate else None,
        "tau_roi": known.tau_roi if known.has_rpn else None,
        "budgets": {
            "max_visual_tokens": known.rules.max_tokens,
            "max_roi_tokens": known.max_roi_tokens if known.has_rpn else None,
        },
        "brownout": _brownout(known, bounds) if bounds.steps else None,
    }


def _brownout(facts: ModelFacts, bounds: BrownoutBounds) -> dict[str, Any]:
    """Describe the last step."""
    source = "calibration" if facts.accuracy_by_tau else "default"
    if bounds.max_tau_gate is not None:
        source = "operator"
    return {
        "steps": bounds.steps,
        "max_tau_gate": highest_tau(facts, bounds) if facts.has_gate else None,
        "max_tau_gate_from": source if facts.has_gate else None,
        "max_loss": bounds.max_loss if source == "calibration" and facts.has_gate else None,
        "min_roi_tokens": roi_tokens(facts, 1.0, bounds) if facts.has_rpn else None,
    }
