"""How are some decoder layers of a model run on their own?

`DecoderStack` holds a range of transformers' decoder layers and runs them one by one over packed
tokens; each stage owns the ranges that it needs and no others.

Shapes:
    T: packed tokens, D: hidden size, K: KV heads, E: head size, R: requests.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qzoom.model.attention import Attention, PackedAttention
from qzoom.model.backbones.base import TextBackbone
from qzoom.model.heads import Rope, project_heads, rotate
from qzoom.model.loading import Checkpoint
from qzoom.model.parameters import assign_tensors


class TokenLayerCounter:
    """Counts for how many tokens each decoder layer computed its output.

    A layer that is run for the last tokens only counts only these; its keys and values, which
    are needed for all tokens, are not an output.
    """

    def __init__(self) -> None:
        self.pairs: Counter[tuple[str, int]] = Counter()

    def add(self, stack: str, layer: int, num_tokens: int) -> None:
        """Record one run of one layer (numbered from 1, as in the paper)."""
        self.pairs[stack, layer] += num_tokens

    def total(self, stack: str) -> int:
        """Pairs (token, layer) of one stack: `lower`, `gate`, `rpn` or `upper`, `decode`."""
        return sum(n for (name, _), n in self.pairs.items() if name == stack)


@dataclass(frozen=True, slots=True)
class Deepstack:
    """Visual features that are added after the first decoder layers (Qwen3-VL).

    Attributes:
        rows: Packed rows of the visual tokens, [V], int64.
        features: One set per layer, [levels, V, D].
    """

    rows: Tensor
    features: Tensor


class DecoderStack(nn.Module):
    """Consecutive decoder layers.

    Args:
        backbone: Makes the layers, on the meta device until they are loaded.
        indices: Indices of the layers in their attention's store, from 0.
        name: Stack's name in a `TokenLayerCounter`.
    """

    def __init__(self, backbone: TextBackbone, indices: Sequence[int], *, name: str) -> None:
        super().__init__()
        self._head_size = backbone.head_size
        self.indices = list(indices)
        self._name = name
        self.layers = nn.ModuleList(backbone.layer(index) for index in indices)

    def forward(
        self,
        hidden_TD: Tensor,
        rope: Rope,
        attention: Attention,
        *,
        deepstack: Deepstack | None = None,
        counter: TokenLayerCounter | None = None,
    ) -> Tensor:
        """Run all layers for all tokens; keys and values go to the attention's store.

        Returns:
            hidden_TD: Output of the last layer.
        """
        return self._run_all(self.layers, hidden_TD, rope, attention, deepstack, counter)

    def last_rows(
        self,
        hidden_TD: Tensor,
        rope: Rope,
        attention: PackedAttention,
        *,
        requests: Sequence[int] | None = None,
        trim: bool = True,
        counter: TokenLayerCounter | None = None,
    ) -> Tensor:
        """Run all layers for the sake of the last token of some requests.

        The last layer needs the keys and values of all tokens, and nothing else of them.

        Args:
            hidden_TD: Packed input.
            rope: Cosines and sines of the packed tokens.
            attention: Of the pass.
            requests: Whose last token is wanted, in order; None means all. The others only leave
                their keys and values in the attention's store.
            trim: False computes every output of the last layer, to compare or to count.
            counter: Where to count.

        Returns:
            hidden_RD: Output of the last layer at the last token of each of these requests.
        """
        rows = attention.last_rows(requests)
        if not trim or not len(self.layers):
            return self.forward(hidden_TD, rope, attention, counter=counter)[rows]
        *firsts, last = self.layers
        hidden_TD = self._run_all(firsts, hidden_TD, rope, attention, None, counter)
        index, attn = self.indices[-1], last.get_submodule("self_attn")
        normed = last.get_submodule("input_layernorm")(hidden_TD)
        k_KTE = rotate(project_heads(attn, "k", normed, self._head_size), rope)
        v_KTE = project_heads(attn, "v", normed, self._head_size)
        known = attention.for_last_rows(index, k_KTE, v_KTE, requests)
        if counter is not None:
            counter.add(self._name, index + 1, len(rows))
        if not len(rows):
            return hidden_TD[rows]
        return _run(last, hidden_TD[rows], (rope[0][rows], rope[1][rows]), known)

    def _run_all(
        self,
        layers: Iterable[nn.Module],
        hidden_TD: Tensor,
        rope: Rope,
        attention: Attention,
        deepstack: Deepstack | None,
        counter: TokenLayerCounter | None,
    ) -> Tensor:
        for index, layer in zip(self.indices, layers, strict=False):
            hidden_TD = _run(layer, hidden_TD, rope, attention)
            if deepstack is not None and index < len(deepstack.features):
                rows = hidden_TD[deepstack.rows] + deepstack.features[index]
                hidden_TD = hidden_TD.index_copy(0, deepstack.rows, rows)
            if counter is not None:
                counter.add(self._name, index + 1, len(hidden_TD))
        return hidden_TD


def _run(layer: nn.Module, hidden_TD: Tensor, rope: Rope, attention: Attention) -> Tensor:
    cos, sin = rope
    hidden = layer(hidden_TD[None], position_embeddings=(cos[None], sin[None]), attention=attention)
    assert isinstance(hidden, Tensor)
    return hidden[0]


def load_layers(
    stack: DecoderStack,
    checkpoint: Checkpoint,
    place: str,
    *,
    first: int | None = None,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Read the tensors of a stack's layers, one layer at a time.

    Args:
        stack: Its layers get the tensors.
        checkpoint: Where they are.
        place: Canonical name of the layers' list, with its dot.
        first: Number in that list of the stack's first layer; None takes the layers' own indices.
        device: Where the parameters go.
        dtype: What they are converted to.

    Raises:
        ValueError: If a tensor is missing or has another shape.
    """
    if not stack.indices:
        return  # an RPN of one layer has only its scoring part
    offset = 0 if first is None else first - stack.indices[0]
    for index, layer in zip(stack.indices, stack.layers, strict=True):
        prefix = f"{place}{index + offset}."
        tensors = checkpoint.tensors([prefix])
        assign_tensors(layer, tensors, prefix, device=device, dtype=dtype)
