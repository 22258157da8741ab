"""Attention of sequences that share a beginning: one picture, many questions.

All tokens of a picture's questions are packed along one axis. The beginning (up to the end of the
picture's tokens) is computed once; a token of a branch sees the beginning and its own branch, so
every branch gets exactly the numbers that it gets alone.

Shapes: H query heads, K KV heads, T new tokens, S known and new tokens, E head size, V cells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

SHARED = -1
"""Owner of the tokens that every branch sees."""

AnswerRows = Literal["fed_back", "predicting"]
"""Query rows that stand for an answer: those of its tokens as they are fed back, as published, or
those that predict them, the prompt's last one first. The row that predicts the answer's end, where
the model looks for what comes next, is of the first kind only."""


@dataclass(slots=True)
class TreeCache:
    """Keys and values of the tokens so far; never changed in place, so that copies are cheap.

    Attributes:
        kv: (k_KSE, v_KSE) by layer.
        owners: Branch of each token [S], `SHARED` for the beginning.
    """

    owners: Tensor
    kv: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def empty(cls, device: torch.device) -> "TreeCache":
        """A cache without tokens."""
        return cls(torch.empty(0, dtype=torch.long, device=device))

    def fork(self) -> "TreeCache":
        """A cache that grows on its own from here."""
        return TreeCache(self.owners, dict(self.kv))


@dataclass(frozen=True, slots=True)
class Watch:
    """Which attention weights are wanted.

    Attributes:
        heads: Query heads by layer, both from 0; an empty list means all heads.
        start: First token whose column is kept.
        stop: End of the columns.
        rows: New tokens whose rows are kept; None keeps all.
    """

    heads: Mapping[int, Sequence[int]]
    start: int
    stop: int
    rows: Sequence[int] | None = None


class TreePass:
    """The attention of one pass over new tokens (see `qzoom.model.attention.Attention`).

    Args:
        cache: What is known; the new keys and values are added to it.
        owners: Branch of each new token [T]; tokens of one branch in their order.
        watch: Weights to keep.
    """

    def __init__(self, cache: TreeCache, owners: Tensor, watch: Watch | None = None) -> None:
        self._cache, self._watch = cache, watch
        self._known = len(cache.owners)
        cache.owners = torch.cat([cache.owners, owners])
        self._mask: Tensor | None = None
        if self._known or not bool((owners == SHARED).all()):
            self._mask = tree_mask(cache.owners, self._known)
        self.rows: dict[int, Tensor] = {}
        """Kept weights by layer, [heads, rows, columns], float32."""

    def attend(self, layer: int, q_HTE: Tensor, k_KTE: Tensor, v_KTE: Tensor) -> Tensor:
        """Mix the values of one layer."""
        if self._known:
            k_old, v_old = self._cache.kv[layer]
            k_KTE, v_KTE = torch.cat([k_old, k_KTE], dim=1), torch.cat([v_old, v_KTE], dim=1)
        self._cache.kv[layer] = (k_KTE, v_KTE)
        if self._watch is not None and layer in self._watch.heads:
            self.rows[layer] = self._weights(self._watch, layer, q_HTE, k_KTE)
        return mix(q_HTE, k_KTE, v_KTE, self._mask)

    def _weights(self, watch: Watch, layer: int, q_HTE: Tensor, k_KSE: Tensor) -> Tensor:
        heads = list(watch.heads[layer]) or list(range(len(q_HTE)))
        shared = len(q_HTE) // len(k_KSE)
        k_HSE = k_KSE[[head // shared for head in heads]]
        assert self._mask is not None, "the shared beginning has no rows of an answer"
        q_HTE, mask = q_HTE[heads], self._mask
        if watch.rows is not None:
            q_HTE, mask = q_HTE[:, list(watch.rows)], mask[list(watch.rows)]
        scores = torch.einsum("hte,hse->hts", q_HTE.float(), k_HSE.float())
        scores *= q_HTE.shape[-1] ** -0.5
        scores = scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(dim=-1)[..., watch.start : watch.stop]


class RowMeans:
    """Means over the rows of each branch, collected pass by pass.

    Args:
        branches: How many there are.
    """

    def __init__(self, branches: int) -> None:
        self._sums: list[dict[int, Tensor]] = [{} for _ in range(branches)]
        self._counts = [0] * branches

    def add(self, branch: int, rows: Mapping[int, Tensor]) -> None:
        """Add some rows of a branch, by layer [heads, rows, columns]."""
        self._counts[branch] += next((found.shape[1] for found in rows.values()), 0)
        so_far = self._sums[branch]
        for layer, found in rows.items():
            total = found.sum(dim=1)
            so_far[layer] = total + so_far[layer] if layer in so_far else total

    def of(self, branch: int) -> dict[int, NDArray[np.float32]]:
        """A branch's means by layer [heads, columns]; empty where no row was added."""
        count = self._counts[branch]
        if not count:
            return {}
        return {layer: (v / count).cpu().numpy() for layer, v in self._sums[branch].items()}


class ForestPass:
    """Attention over several packed trees at once, without a past: for training.

    Args:
        owners: Of each tree's tokens.
    """

    def __init__(self, owners: Sequence[Tensor]) -> None:
        self._trees: list[tuple[int, int, Tensor | None]] = []
        start = 0
        for own in owners:
            is_plain = len(set(own.tolist()) - {SHARED}) <= 1
            mask = None if is_plain else tree_mask(own, 0)
            self._trees.append((start, start + len(own), mask))
            start += len(own)

    def attend(self, layer: int, q_HTE: Tensor, k_KTE: Tensor, v_KTE: Tensor) -> Tensor:
        """Mix the values of one layer."""
        del layer
        mixed = [
            mix(q_HTE[:, low:high], k_KTE[:, low:high], v_KTE[:, low:high], mask)
            for low, high, mask in self._trees
        ]
        return torch.cat(mixed)


def tree_mask(owners_S: Tensor, known: int) -> Tensor:
    """Which tokens may each new token see?

    Args:
        owners_S: Branch of all tokens, the known ones first.
        known: How many are known.

    Returns:
        mask_TS: True where the column is shared or of the row's branch, and not behind the row.
    """
    new = owners_S[known:]
    own = (owners_S == SHARED) | (owners_S == new[:, None])
    return own.tril(diagonal=known)


def mix(q_HTE: Tensor, k_KSE: Tensor, v_KSE: Tensor, mask_TS: Tensor | None) -> Tensor:
    """Scaled dot-product attention of one tree; no mask means causal from the first token.

    Returns:
        mixed_THE: One row per query.
    """
    shared = len(q_HTE) // len(k_KSE)
    if shared > 1:
        k_KSE, v_KSE = k_KSE.repeat_interleave(shared, 0), v_KSE.repeat_interleave(shared, 0)
    mixed = functional.scaled_dot_product_attention(
        q_HTE[None], k_KSE[None], v_KSE[None], attn_mask=mask_TS, is_causal=mask_TS is None
    )
    return mixed[0].transpose(0, 1)
