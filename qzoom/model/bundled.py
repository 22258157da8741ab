"""Keys and values that are born where they travel: in the buffers that a prefill returns.

A state that is computed in one place and packed in another is copied twice before it leaves the
process. Here every block and every suffix of a pass has its buffer from the start, and what remains
is the one copy into the object store.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from qzoom.model.handoff import allocate
from qzoom.model.state import StatePart


class BundledKV:
    """Keys and values of layers 1..B of one packed prefill on the CPU (a `KVStore`).

    Args:
        num_layers: B; the pass runs the layers from the first one on.
        shape_KE: KV heads, head size.
        hidden_size: D.
        bounds: For each request, in the order of packing, where its new blocks and its suffix begin
            in the prompt, and the prompt's end.
        pasts: For each request the keys and values that come before, [B, 2, K, S, E] each, which
            are read and never written.
        dtype: Of the pass.
    """

    def __init__(
        self,
        num_layers: int,
        shape_KE: tuple[int, int],
        hidden_size: int,
        bounds: Sequence[Sequence[int]],
        pasts: Sequence[Sequence[Tensor]],
        *,
        dtype: torch.dtype,
    ) -> None:
        num_heads, size = shape_KE
        self._pasts = pasts
        self._parts: list[list[StatePart]] = []
        self._rows: list[list[slice]] = []
        offset = 0
        for own in bounds:
            parts, rows = [], []
            for low, high in pairwise(own):
                shapes = {
                    "kv": (num_layers, 2, num_heads, high - low, size),
                    "hidden": (high - low, hidden_size),
                }
                header, buffer, views = allocate(shapes, dtype)
                parts.append(StatePart(views["kv"], views["hidden"], (header, buffer)))
                rows.append(slice(offset, offset + high - low))
                offset += high - low
            self._parts.append(parts)
            self._rows.append(rows)

    def write(self, layer: int, k_KTE: Tensor, v_KTE: Tensor) -> None:
        """Store the keys and values of all packed tokens."""
        for part, rows in self._each():
            part.kv[layer, 0] = k_KTE[:, rows]
            part.kv[layer, 1] = v_KTE[:, rows]

    def read(self, layer: int, request: int) -> tuple[Tensor, Tensor]:
        """Return past and new keys and values of one request, [K, S, E] each."""
        new = [part.kv[layer] for part in self._parts[request]]
        k, v = torch.cat([*(past[layer] for past in self._pasts[request]), *new], dim=-2)
        return k, v

    def finish(self, hidden_TD: Tensor) -> Iterator[tuple[list[StatePart], StatePart]]:
        """Take the output of layer B, which completes the buffers.

        Yields:
            New blocks and suffix of each request.
        """
        for part, rows in self._each():
            part.hidden.copy_(hidden_TD[rows])
        for parts in self._parts:
            yield parts[:-1], parts[-1]

    def _each(self) -> Iterator[tuple[StatePart, slice]]:
        for parts, rows in zip(self._parts, self._rows, strict=True):
            yield from zip(parts, rows, strict=True)
