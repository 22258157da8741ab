"""What do access and the flow need to know of each other? What pictures cost, and the threshold."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from gateway.access.quotas import VisualCost
from gateway.admission.cost import predict
from qzoom.contracts.options import Options
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
        told, options = await facts(), request.options
        here = [
            (image, param)
            for image, param in zip(request.images, request.image_params, strict=True)
            if isinstance(image, bytes)
        ]
        images, params = zip(*here, strict=True) if here else ((), ())
        seen = sizes(replace(request, images=images, image_params=params))
        known = predict(
            seen, request.conversation, request.sampling.max_tokens, options, told
        ).visual_tokens
        # What must be fetched first counts with the budget of a picture.
        return known + (len(request.images) - len(here)) * _budget(told, options)

    return cost


def _budget(facts: ModelFacts, options: Options) -> int:
    if facts.rules.fixed_grid is not None:
        return facts.rules.fixed_grid[0] * facts.rules.fixed_grid[1]
    asked = options.max_visual_tokens
    return facts.rules.max_tokens if asked is None else asked


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
