"""Where do keys and values live? In a packed state during prefill, in slots while decoding."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from qzoom.errors import Overloaded, TooLarge
from qzoom.model.attention import slot_attention


class PackedKV:
    """Keys and values of some layers of one packed prefill (a `KVStore`).

    Args:
        layers: Indices of the layers, consecutive.
        shape_KE: KV heads, head size.
        lengths: New tokens of each request, in the order of packing.
        pasts: For each request the keys and values that come before, [layers, 2, K, S, E] each,
            which are read and never written.
        dtype: Of the pass.
        device: Of the pass.
    """

    def __init__(
        self,
        layers: Sequence[int],
        shape_KE: tuple[int, int],
        lengths: Sequence[int],
        pasts: Sequence[Sequence[Tensor]],
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        num_heads, size = shape_KE
        shape = (len(layers), 2, num_heads, sum(lengths), size)
        self.kv = torch.empty(shape, dtype=dtype, device=device)
        self._first = layers[0] if layers else 0
        self._pasts = pasts
        self._bounds = list(pairwise(accumulate(lengths, initial=0)))

    def write(self, layer: int, k_KTE: Tensor, v_KTE: Tensor) -> None:
        """Store the keys and values of all packed tokens."""
        self.kv[layer - self._first, 0] = k_KTE
        self.kv[layer - self._first, 1] = v_KTE

    def read(self, layer: int, request: int) -> tuple[Tensor, Tensor]:
        """Return past and new keys and values of one request, [K, S, E] each."""
        index, (start, end) = layer - self._first, self._bounds[request]
        new = self.kv[index, :, :, start:end]
        k, v = torch.cat([*(past[index] for past in self._pasts[request]), new], dim=-2)
        return k, v


class SlotCache:
    """KV cache of running requests: a hard bound of slots times positions.

    Args:
        num_layers: L.
        num_slots: Most requests that run at once.
        max_len: Most positions of one request, prompt and answer.
        num_kv_heads: K.
        head_size: E.
        dtype: Of the keys and values.
        device: Of the keys and values.
    """

    def __init__(
        self,
        num_layers: int,
        num_slots: int,
        max_len: int,
        *,
        num_kv_heads: int,
        head_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (num_layers, 2, num_slots, num_kv_heads, max_len, head_size)
        # Zeros, not empty: masked positions are still multiplied, and NaN times zero is NaN.
        self.kv = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths = [0] * num_slots
        self.next_positions = [0.0] * num_slots
        self._free = list(range(num_slots - 1, -1, -1))

    @property
    def num_slots(self) -> int:
        """Most requests that run at once."""
        return self.kv.shape[2]

    @property
    def max_len(self) -> int:
        """Most positions of one request."""
        return self.kv.shape[4]

    @property
    def num_free(self) -> int:
        """Slots that `alloc` can still give."""
        return len(self._free)

    @property
    def num_bytes(self) -> int:
        """Memory of all slots."""
        return self.kv.numel() * self.kv.element_size()

    def alloc(self) -> int:
        """Take the lowest free slot, so that running requests stay close together.

        Raises:
            Overloaded: If every slot is in use.
        """
        if not self._free:
            raise Overloaded(f"all {self.num_slots} KV slots are in use")
        slot = self._free.pop()
        self.lengths[slot] = 0
        return slot

    def free(self, slot: int) -> None:
        """Return a slot; its contents are overwritten by the next request.

        Raises:
            ValueError: If the slot is not in use.
        """
        if slot in self._free or not 0 <= slot < self.num_slots:
            raise ValueError(f"slot {slot} is not in use")
        self._free.append(slot)
        self._free.sort(reverse=True)

    def check_fits(self, num_tokens: int) -> None:
        """Refuse a sequence that leaves no room for a single token of the answer.

        Raises:
            TooLarge: Naming the tokens and the limit.
        """
        if num_tokens >= self.max_len:
            raise TooLarge(
                f"the prompt has {num_tokens} tokens with its visual tokens, "
                f"at most {self.max_len - 1}",
                param="messages",
            )


class SlotSegments:
    """Writes a packed pass into slots (a `KVStore`), each request after its own past.

    Args:
        cache: The slots.
        slots: Slot of each request, in the order of packing.
        pasts: Positions that are already filled.
        lengths: New tokens of each request.
    """

    def __init__(
        self, cache: SlotCache, slots: Sequence[int], pasts: Sequence[int], lengths: Sequence[int]
    ) -> None:
        self._cache = cache
        self._segments = list(zip(slots, pasts, lengths, strict=True))

    def write(self, layer: int, k_KTE: Tensor, v_KTE: Tensor) -> None:
        """Store the new keys and values behind each request's past."""
        start = 0
        for slot, past, length in self._segments:
            target = self._cache.kv[layer, :, slot, :, past : past + length]
            target[0] = k_KTE[:, start : start + length]
            target[1] = v_KTE[:, start : start + length]
            start += length

    def read(self, layer: int, request: int) -> tuple[Tensor, Tensor]:
        """Return past and new keys and values of one request, [K, S, E] each."""
        slot, past, length = self._segments[request]
        k, v = self._cache.kv[layer, :, slot, :, : past + length]
        return k, v


class SlotDecode:
    """Attention of one decoding step: one token for each of some slots.

    Args:
        cache: The slots; the new token of each is written at its length, which the caller
            advances after the step.
        slots: The running slots.
    """

    def __init__(self, cache: SlotCache, slots: Sequence[int]) -> None:
        device = cache.kv.device
        self._cache = cache
        self._slots = torch.tensor(list(slots), device=device)
        self._at = torch.tensor([cache.lengths[s] for s in slots], device=device)
        self._rows = max(slots) + 1
        self._length = max(cache.lengths[s] for s in slots) + 1
        # Slots between the running ones take part, so that the cache is read in place; what
        # they compute is dropped.
        lengths = torch.zeros(self._rows, dtype=torch.long, device=device)
        lengths[self._slots] = self._at
        self._mask = torch.arange(self._length, device=device) <= lengths[:, None]

    def attend(self, layer: int, q_HTE: Tensor, k_KTE: Tensor, v_KTE: Tensor) -> Tensor:
        """See `Attention`; T is the number of slots."""
        k_cache, v_cache = self._cache.kv[layer]
        k_cache[self._slots, :, self._at] = k_KTE.transpose(0, 1)
        v_cache[self._slots, :, self._at] = v_KTE.transpose(0, 1)
        queries = q_HTE.new_zeros(q_HTE.shape[0], self._rows, q_HTE.shape[2])
        queries[:, self._slots] = q_HTE
        mixed = slot_attention(
            queries,
            k_cache[: self._rows, :, : self._length],
            v_cache[: self._rows, :, : self._length],
            self._mask,
        )
        return mixed[self._slots]
