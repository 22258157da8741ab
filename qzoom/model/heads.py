"""Queries, keys and values of an attention module, outside of its forward.

Needed where a layer is run in part: for its keys and values only (the last layer of a branch), or
for its scores only (the RPN, Eq. 4).
"""

from typing import Literal

import torch
from torch import Tensor, nn

Rope = tuple[Tensor, Tensor]
"""Cosines and sines [T, E] of packed tokens."""


def project_heads(
    attention: nn.Module, which: Literal["q", "k", "v"], hidden_TD: Tensor, head_size: int
) -> Tensor:
    """Project to heads, and normalise each where the module has a norm for that.

    Args:
        attention: Holds `q_proj` and so on, perhaps `q_norm` and `k_norm`.
        which: Queries, keys or values.
        hidden_TD: After the layer's input norm.
        head_size: E.

    Returns:
        heads_HTE: One matrix per head, not rotated yet.
    """
    parts = dict(attention.named_children())
    heads: Tensor = parts[f"{which}_proj"](hidden_TD).unflatten(-1, (-1, head_size))
    if f"{which}_norm" in parts:
        heads = parts[f"{which}_norm"](heads)
    return heads.transpose(0, 1)


def rotate(heads_HTE: Tensor, rope: Rope) -> Tensor:
    """Apply rotary position embedding, the two halves of a head forming the pairs."""
    cos_TE, sin_TE = rope
    low, high = heads_HTE.chunk(2, dim=-1)
    return heads_HTE * cos_TE + torch.cat((-high, low), dim=-1) * sin_TE
