"""What do access and the flow need to know of each other? What pictures cost, and the threshold."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from gateway.access.quotas import VisualCost
from gateway.admission.cost import predict
from qzoom.contracts.request import AnswerRequest
from qzoom.contracts.status import ModelFacts

Facts = Callable[[], Awaitable[ModelFacts]]
"""Tells what the gateway must know about the model."""

Sizes = Callable[[AnswerRequest], Sequence[tuple[int, int]]]
"""Reads (width, height) in pixels of each picture from its header."""


def visual_cost(facts: Facts, sizes: Sizes) -> VisualCost:
    """Predict visual tokens as admission does, from the pictures' headers.

    Args:
        facts: Of the model.
        sizes: Reads headers.
    """

    async def cost(request: AnswerRequest) -> int:
        told, max_tokens = await facts(), request.sampling.max_tokens
        seen = sizes(request)
        return predict(seen, request.conversation, max_tokens, request.options, told).visual_tokens

    return cost


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
