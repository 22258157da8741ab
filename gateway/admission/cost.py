"""What will a request cost? Predicted from its pictures' headers, before anything is decoded."""

from collections.abc import Sequence
from dataclasses import dataclass

from qzoom.contracts.budget import coarse_grid
from qzoom.contracts.conversation import Conversation, Text
from qzoom.contracts.options import Options
from qzoom.contracts.status import ModelFacts

BYTES_PER_TOKEN = 3
"""Of text: tokenizers put about four letters into a token, fewer where they know a script badly."""
TOKENS_PER_TURN = 8
"""A chat template's marks around a turn."""
RGB_BYTES = 3


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request is expected to take while it is worked on.

    Attributes:
        visual_tokens: Of the coarse pictures, and of the RoI where one may be looked at.
        positions: Tokens of the whole sequence, the longest answer included.
        kv_bytes: Size of the KV cache of these positions over all layers.
        store_bytes: Size of what travels between stages: pixels, visual tokens, prefill state.
    """

    visual_tokens: int
    positions: int
    kv_bytes: int
    store_bytes: int


def predict(
    sizes_px: Sequence[tuple[int, int]],
    conversation: Conversation,
    max_tokens: int,
    options: Options,
    facts: ModelFacts,
) -> Cost:
    """Predict what a request costs.

    Visual tokens are exact but for the RoI, which counts with its budget unless the route is
    `direct`; the length of the text is estimated.

    Args:
        sizes_px: (width, height) of each picture.
        conversation: All turns.
        max_tokens: Longest answer that was asked for.
        options: Choices about the method.
        facts: Of the model.

    Raises:
        InvalidRequest: If a picture or a budget is not one that the model can take.
    """
    grids = [coarse_grid(size, facts.rules, options.max_visual_tokens) for size in sizes_px]
    coarse = sum(height * width for height, width in grids)
    roi = 0
    if options.route != "direct" and facts.has_rpn:
        roi = facts.max_roi_tokens if options.max_roi_tokens is None else options.max_roi_tokens
    prompt = coarse + roi + _text_tokens(conversation)
    pixels = sum(width * height * RGB_BYTES for width, height in sizes_px)
    return Cost(
        visual_tokens=coarse + roi,
        positions=prompt + max_tokens,
        kv_bytes=(prompt + max_tokens) * facts.kv_bytes_per_token,
        store_bytes=pixels
        + (coarse + roi) * facts.visual_bytes_per_token
        + prompt * facts.state_bytes_per_token,
    )


def _text_tokens(conversation: Conversation) -> int:
    num_bytes = sum(
        len(part.text.encode())
        for turn in conversation
        for part in turn.parts
        if isinstance(part, Text)
    )
    return num_bytes // BYTES_PER_TOKEN + TOKENS_PER_TURN * len(conversation)
