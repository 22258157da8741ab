"""How do requests of unequal length share one pass?

Prompts are packed along the token axis without padding; attention is computed per request over
its own tokens and its own cached past. Decoding runs one call per layer for all requests.

transformers' decoder layers run unchanged: they find our function under `ATTENTION_NAME` and hand
it the pass's `Attention` object through the keyword `attention`.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION_NAME = "qzoom"


class Attention(Protocol):
    """The attention of one pass over some layers."""

    def attend(self, layer: int, q_HTE: Tensor, k_KTE: Tensor, v_KTE: Tensor) -> Tensor:
        """Mix the values of one layer.

        Args:
            layer: Index of the layer, from 0.
            q_HTE: Rotated queries of the packed tokens.
            k_KTE: Rotated keys of the same tokens.
            v_KTE: Values of the same tokens.

        Returns:
            mixed_THE: One row per query.
        """
        ...


class KVStore(Protocol):
    """Keeps the keys and values of a packed pass, and knows what was cached before it."""

    def write(self, layer: int, k_KTE: Tensor, v_KTE: Tensor) -> None:
        """Store the new keys and values of every request."""
        ...

    def read(self, layer: int, request: int) -> tuple[Tensor, Tensor]:
        """Return cached and new keys and values of one request, [K, S, E] each."""
        ...


class PackedAttention:
    """Causal attention of packed requests, each after its own cached past.

    Args:
        lengths: New tokens of each request, in the order of packing.
        pasts: Cached tokens of each request, at least 0; None means that there are none.
        store: Receives keys and values; needed where there is a past.
        device: Where the pass runs.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        pasts: Sequence[int] | None = None,
        store: KVStore | None = None,
        device: torch.device,
    ) -> None:
        pasts = pasts or [0] * len(lengths)
        self._store = store
        self._spans: list[tuple[int, int]] = []
        self._masks: list[Tensor | None] = []
        start = 0
        for length, past in zip(lengths, pasts, strict=True):
            self._spans.append((start, start + length))
            self._masks.append(_lower_right(length, past, device) if past else None)
            start += length
        self._device = device

    def last_rows(self, requests: Sequence[int] | None = None) -> Tensor:
        """Packed rows of the last tokens of some requests, in order; None means all."""
        chosen = range(len(self._spans)) if requests is None else requests
        ends = [self._spans[r][1] - 1 for r in chosen]
        return torch.tensor(ends, dtype=torch.long, device=self._device)

    def attend(self, layer: int, q_HTE: Tensor, k_KTE: Tensor, v_KTE: Tensor) -> Tensor:
        """See `Attention`; also writes to the store."""
        if self._store is not None:
            self._store.write(layer, k_KTE, v_KTE)
        mixed = []
        for request, (span, mask) in enumerate(zip(self._spans, self._masks, strict=True)):
            k, v = self._keys_values(layer, request, k_KTE, v_KTE)
            q = q_HTE[:, span[0] : span[1]]
            mixed.append(_sdpa(q, k, v, mask=mask, is_causal=mask is None))
        return torch.cat(mixed, dim=1).transpose(0, 1)

    def for_last_rows(
        self,
        layer: int,
        k_KTE: Tensor,
        v_KTE: Tensor,
        requests: Sequence[int] | None = None,
    ) -> Attention:
        """Let only the last token of some requests ask; the keys of all tokens are known.

        Args:
            layer: The only layer that this serves.
            k_KTE: Rotated keys of all packed tokens, written to the store.
            v_KTE: Values of all packed tokens, written to the store.
            requests: Whose last token asks; None means all.
        """
        if self._store is not None:
            self._store.write(layer, k_KTE, v_KTE)
        chosen = range(len(self._spans)) if requests is None else requests
        pairs = [self._keys_values(layer, r, k_KTE, v_KTE) for r in chosen]
        return _LastRowAttention(pairs)

    def _keys_values(
        self, layer: int, request: int, k_KTE: Tensor, v_KTE: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self._masks[request] is not None:
            assert self._store is not None, "a past needs a store"
            return self._store.read(layer, request)
        start, end = self._spans[request]
        return k_KTE[:, start:end], v_KTE[:, start:end]


class _LastRowAttention:
    def __init__(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        self._pairs = pairs

    def attend(self, layer: int, q_HTE: Tensor, k_KTE: Tensor, v_KTE: Tensor) -> Tensor:
        """See `Attention`; the rows' own keys are among the known ones."""
        del layer, k_KTE, v_KTE
        mixed = [_sdpa(q_HTE[:, r : r + 1], k, v) for r, (k, v) in enumerate(self._pairs)]
        return torch.cat(mixed, dim=1).transpose(0, 1)


def slot_attention(q_HRE: Tensor, k_RKSE: Tensor, v_RKSE: Tensor, mask_RS: Tensor) -> Tensor:
    """Attend from one new token per slot to the slot's own cache, for all slots at once.

    Args:
        q_HRE: One query per slot.
        k_RKSE: Cached keys.
        v_RKSE: Cached values.
        mask_RS: True where a cached position belongs to the slot's request.

    Returns:
        mixed_RHE: One row per slot.
    """
    num_heads, rows, size = q_HRE.shape
    num_kv_heads = k_RKSE.shape[1]
    # The query heads of one KV head become its "tokens": no key is copied.
    q = q_HRE.transpose(0, 1).reshape(rows, num_kv_heads, num_heads // num_kv_heads, size)
    mixed = functional.scaled_dot_product_attention(
        q, k_RKSE, v_RKSE, attn_mask=mask_RS[:, None, None]
    )
    return mixed.reshape(rows, num_heads, size)


def _sdpa(
    q_HTE: Tensor,
    k_KSE: Tensor,
    v_KSE: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    return functional.scaled_dot_product_attention(
        q_HTE[None],
        k_KSE[None],
        v_KSE[None],
        attn_mask=mask,
        is_causal=is_causal,
        enable_gqa=q_HTE.shape[0] != k_KSE.shape[0],
    )[0]


def _lower_right(length: int, past: int, device: torch.device) -> Tensor:
    """Causal mask [length, past + length]; sdpa's own flag aligns at the upper left."""
    return torch.ones(length, past + length, dtype=torch.bool, device=device).tril(past)


def _attention_function(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    attention: Attention,
    **_: Any,  # noqa: ANN401 - whatever else a layer passes along
) -> tuple[Tensor, None]:
    assert attention_mask is None, "masks are the attention object's business"
    layer = module.layer_idx
    assert isinstance(layer, int)
    return attention.attend(layer, query[0], key[0], value[0])[None], None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, _attention_function)
