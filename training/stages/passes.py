"""Decoder layers under a gradient, with or without keeping what is inside them."""

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from qzoom.model.attention import Attention
from qzoom.model.heads import Rope
from qzoom.model.stack import Deepstack


def run_layers(
    layers: Iterable[nn.Module],
    hidden_TD: Tensor,
    rope: Rope,
    attention: Attention,
    *,
    recompute: bool,
    deepstack: Deepstack | None = None,
) -> Tensor:
    """Run layers one after the other over packed tokens.

    Args:
        layers: transformers' own, with our attention function.
        hidden_TD: Packed input.
        rope: Cosines and sines of the packed tokens.
        attention: Must give the same again when it is asked again.
        recompute: Keep only the layers' inputs for the backward pass.
        deepstack: What the first layers add.

    Returns:
        hidden_TD: Output of the last layer.
    """
    cos, sin = rope

    def run(layer: nn.Module, hidden: Tensor) -> Tensor:
        output = layer(
            hidden[None], position_embeddings=(cos[None], sin[None]), attention=attention
        )
        return cast(Tensor, output[0])

    for number, layer in enumerate(layers):
        if recompute:
            hidden_TD = cast(Tensor, checkpoint(run, layer, hidden_TD, use_reentrant=False))
        else:
            hidden_TD = run(layer, hidden_TD)
        if deepstack is not None and number < len(deepstack.features):
            added = hidden_TD[deepstack.rows] + deepstack.features[number]
            hidden_TD = hidden_TD.index_copy(0, deepstack.rows, added)
    return hidden_TD
