"""What is the answer? Finishes the prefill above layer B and decodes (Eq. 8-9).

Direct route: the coarse state goes through layers B+1..L. Zoom route: the state up to the end of
the chosen picture is kept, the RoI and everything behind it goes through layers 1..B, and the
whole sequence through B+1..L. Then one token at a time for all running requests together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qzoom.contracts.stages import Prompt, Proposal
from qzoom.model.attention import PackedAttention
from qzoom.model.backbones import TextBackbone, text_backbone
from qzoom.model.cache import SlotCache, SlotDecode, SlotSegments
from qzoom.model.config import QZoomConfig
from qzoom.model.embedding import EMBEDDINGS, InputEmbedding, Segment
from qzoom.model.heads import Rope
from qzoom.model.loading import Checkpoint
from qzoom.model.parameters import assign_tensors
from qzoom.model.positions import ZoomTail, next_position, zoom_tail
from qzoom.model.stack import DecoderStack, TokenLayerCounter, load_layers
from qzoom.model.state import PrefillState, VisualTokens


@dataclass(frozen=True, slots=True)
class Roi:
    """What the zoom adds to the sequence.

    Attributes:
        proposal: Where the RoI lies.
        visual: Its encoding.
        later: Encodings of the pictures behind the chosen one, in the order of the sequence.
    """

    proposal: Proposal
    visual: VisualTokens
    later: tuple[VisualTokens, ...] = ()


@dataclass(frozen=True, slots=True)
class ResumeInput:
    """One request.

    Attributes:
        slot: From `SlotCache.alloc`.
        state: The coarse state.
        roi: None takes the direct route.
    """

    slot: int
    state: PrefillState
    roi: Roi | None = None


class Decoder(nn.Module):
    """Embeddings, all decoder layers, final norm and language-model head.

    Args:
        backbone: Of the checkpoint.
        config: Of the checkpoint.
        device: Where to run.
        trim: Skip what no output needs; False to compare or to count.
        counter: Where to count (token, layer) pairs.
    """

    def __init__(
        self,
        backbone: TextBackbone,
        config: QZoomConfig,
        *,
        device: torch.device,
        trim: bool = True,
        counter: TokenLayerCounter | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.counter = counter
        self._backbone, self._device, self._trim = backbone, device, trim
        backbone.check(config)
        split, total = config.split_layer, backbone.num_layers
        self.embedding = InputEmbedding(backbone)
        self.rotary = backbone.rotary(device)
        self.lower = DecoderStack(backbone, range(split), name="lower")
        self.upper = DecoderStack(backbone, range(split, total), name="upper")
        self.norm = backbone.norm()
        vocab_size = int(backbone.config.vocab_size)
        self.head = nn.Linear(backbone.hidden_size, vocab_size, bias=False, device="meta")

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        trim: bool = True,
        counter: TokenLayerCounter | None = None,
    ) -> Self:
        """Read this stage's tensors, and no others.

        Raises:
            ValueError: If the checkpoint does not fit its own configuration.
        """
        device = torch.device(device)
        backbone = text_backbone(checkpoint.family, checkpoint.hf_config)
        stage = cls(backbone, checkpoint.qzoom, device=device, trim=trim, counter=counter)
        place, norm, head = "model.language_model.layers.", "model.language_model.norm.", "lm_head."
        for stack in (stage.lower, stage.upper):
            load_layers(stack, checkpoint, place, device=device, dtype=dtype)
        is_tied = bool(checkpoint.hf_config.tie_word_embeddings)
        tensors = checkpoint.tensors([EMBEDDINGS, norm] if is_tied else [EMBEDDINGS, norm, head])
        stage.embedding.load(tensors, device=device, dtype=dtype)
        assign_tensors(stage.norm, tensors, norm, device=device, dtype=dtype)
        if is_tied:
            stage.head.weight = stage.embedding.tokens.weight
        else:
            assign_tensors(stage.head, tensors, head, device=device, dtype=dtype)
        return stage

    def new_cache(self, num_slots: int, max_len: int) -> SlotCache:
        """Reserve the KV cache of all requests that run at once, a hard bound."""
        return SlotCache(
            self._backbone.num_layers,
            num_slots,
            max_len,
            num_kv_heads=self._backbone.num_kv_heads,
            head_size=self._backbone.head_size,
            dtype=self.head.weight.dtype,
            device=self._device,
        )

    def num_tokens(
        self, prompt: Prompt, proposal: Proposal | None, roi_grid: tuple[int, int] | None
    ) -> int:
        """Length of the sequence that `resume` fills a slot with."""
        if proposal is None or roi_grid is None:
            return len(prompt.ids)
        tail = self._tail(prompt, proposal, roi_grid)
        return tail.kept + len(tail.ids)

    @torch.inference_mode()
    def resume(self, cache: SlotCache, inputs: Sequence[ResumeInput]) -> Tensor:
        """Finish the prefill of requests of any lengths and routes, filling their slots.

        Returns:
            logits_RC: Of the first token of each answer, float32.

        Raises:
            InvalidRequest: If a sequence does not fit a slot; no slot is written then.
            ValueError: If the encodings do not match the prompt.
        """
        tails = [
            self._tail(item.state.prompt, item.roi.proposal, item.roi.visual.grid)
            if item.roi
            else None
            for item in inputs
        ]
        positions = [_positions(i.state.prompt, t) for i, t in zip(inputs, tails, strict=True)]
        lengths = [p.shape[1] for p in positions]
        for length in lengths:
            cache.check_fits(length)
        dtype = self.head.weight.dtype
        rope = self._rope(np.concatenate(positions, axis=1), dtype)
        split = self.config.split_layer
        for item, tail in zip(inputs, tails, strict=True):
            kept = tail.kept if tail else len(item.state.prompt.ids)
            item.state.copy_kv(cache.kv[:split, :, item.slot], kept)
        hidden_TD = self._lower_pass(cache, inputs, tails, lengths, rope)
        slots = [item.slot for item in inputs]
        store = SlotSegments(cache, slots, [0] * len(slots), lengths)
        attention = PackedAttention(lengths, store=store, device=self._device)
        last_RD = self.upper.last_rows(
            hidden_TD, rope, attention, trim=self._trim, counter=self.counter
        )
        for slot, length, at in zip(slots, lengths, positions, strict=True):
            cache.lengths[slot] = length
            cache.next_positions[slot] = next_position(at)
        return self._logits(last_RD)

    @torch.inference_mode()
    def step(self, cache: SlotCache, slots: Sequence[int], token_ids: Sequence[int]) -> Tensor:
        """Decode one token for each running slot, appending to its cache.

        Args:
            cache: From `new_cache`.
            slots: Running slots, each once.
            token_ids: The token that each answer got last.

        Returns:
            logits_RC: Of the next token of each answer, float32.

        Raises:
            ValueError: If a slot is full.
        """
        full = [slot for slot in slots if cache.lengths[slot] >= cache.max_len]
        if full:
            raise ValueError(f"KV slots {full} are full at {cache.max_len} positions")
        ids = np.array(token_ids, np.int32)
        hidden_RD, _ = self.embedding([Segment(ids, ())])
        at = np.array([cache.next_positions[slot] for slot in slots], np.float32)
        rope = self._rope(np.stack([at, at, at]), hidden_RD.dtype)
        attention = SlotDecode(cache, slots)
        hidden_RD = self.upper(self.lower(hidden_RD, rope, attention), rope, attention)
        for slot in slots:
            cache.lengths[slot] += 1
            cache.next_positions[slot] += 1.0
        if self.counter is not None:
            for layer in range(1, self._backbone.num_layers + 1):
                self.counter.add("decode", layer, len(slots))
        return self._logits(hidden_RD)

    def _lower_pass(
        self,
        cache: SlotCache,
        inputs: Sequence[ResumeInput],
        tails: Sequence[ZoomTail | None],
        lengths: Sequence[int],
        rope: Rope,
    ) -> Tensor:
        """Run the zoomed tails through layers 1..B (Eq. 8) and join the states (Eq. 9).

        Returns:
            hidden_TD: Output of layer B for the whole packed sequences.
        """
        zooms = [
            (item, item.roi, tail)
            for item, tail in zip(inputs, tails, strict=True)
            if item.roi and tail
        ]
        fresh: Iterator[Tensor] = iter(())
        if zooms:
            segments = [_tail_segment(roi, tail) for _, roi, tail in zooms]
            tail_lengths = [len(tail.ids) for _, _, tail in zooms]
            pasts = [tail.kept for _, _, tail in zooms]
            store = SlotSegments(cache, [item.slot for item, _, _ in zooms], pasts, tail_lengths)
            attention = PackedAttention(tail_lengths, pasts=pasts, store=store, device=self._device)
            rows = _tail_rows(tails, lengths).to(self._device)
            hidden_TD, deepstack = self.embedding(segments)
            hidden_TD = self.lower(
                hidden_TD,
                (rope[0][rows], rope[1][rows]),
                attention,
                deepstack=deepstack,
                counter=self.counter,
            )
            fresh = iter(torch.split(hidden_TD, tail_lengths))
        parts: list[Tensor] = []
        for item, tail in zip(inputs, tails, strict=True):
            hidden = item.state.hidden.to(self._device)
            parts += [hidden] if tail is None else [hidden[: tail.kept], next(fresh)]
        return torch.cat(parts)

    def _tail(self, prompt: Prompt, proposal: Proposal, roi_grid: tuple[int, int]) -> ZoomTail:
        return zoom_tail(prompt, proposal, roi_grid, self.config, mrope=self._backbone.mrope)

    def _rope(self, positions: NDArray[np.float32], dtype: torch.dtype) -> Rope:
        return self._backbone.rope(self.rotary, positions, dtype=dtype, device=self._device)

    def _logits(self, hidden_RD: Tensor) -> Tensor:
        logits_RC: Tensor = self.head(self.norm(hidden_RD))
        return logits_RC.float()


def _positions(prompt: Prompt, tail: ZoomTail | None) -> NDArray[np.float32]:
    if tail is None:
        return prompt.positions
    return np.concatenate([prompt.positions[:, : tail.kept], tail.positions], axis=1)


def _tail_segment(roi: Roi, tail: ZoomTail) -> Segment:
    encodings = (roi.visual, *roi.later)
    counts = [visual.num_tokens for visual in encodings]
    expected = [count for _, count in tail.visual]
    if counts != expected:
        raise ValueError(f"RoI and later pictures have {counts} tokens, the prompt says {expected}")
    starts = [start for start, _ in tail.visual]
    return Segment(tail.ids, tuple(zip(starts, encodings, strict=True)))


def _tail_rows(tails: Sequence[ZoomTail | None], lengths: Sequence[int]) -> Tensor:
    """Packed rows of all tails in the packed whole sequences."""
    rows, offset = [], 0
    for tail, length in zip(tails, lengths, strict=True):
        if tail is not None:
            rows.append(torch.arange(offset + tail.kept, offset + length))
        offset += length
    return torch.cat(rows)
