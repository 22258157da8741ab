"""What do access and the flow need to know of each other? What pictures cost, and the threshold."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from gateway.access.quotas import VisualCost
from gateway.pixels import ImageLimits, read_size
from qzoom.contracts.budget import native_tokens
from qzoom.contracts.request import AnswerRequest
from qzoom.contracts.status import ModelFacts

Facts = Callable[[], Awaitable[ModelFacts]]
"""Tells what the gateway must know about the model."""


def visual_cost(facts: Facts) -> VisualCost:
    """Predict visual tokens from the pictures' headers: at most those of their own resolution.

    Args:
        facts: Of the model.
    """
    limits = ImageLimits()

    async def predict(request: AnswerRequest) -> int:
        cell_px, budget = (await facts()).cell_px, request.options.max_visual_tokens
        total = 0
        for image, param in zip(request.images, request.image_params, strict=True):
            tokens = native_tokens(read_size(image, limits, param), cell_px)
            total += tokens if budget is None else min(tokens, budget)
        return total

    return predict


def with_threshold(facts: Facts, tau_gate: Callable[[], float | None]) -> Facts:
    """Put the operator's threshold of the gate in the place of the model's.

    Args:
        facts: Of the model.
        tau_gate: The operator's at the moment; None leaves the model's.
    """

    async def chosen() -> ModelFacts:
        told, tau = await facts(), tau_gate()
        return told if tau is None else replace(told, tau_gate=tau)

    return chosen
