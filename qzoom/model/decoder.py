"""What is the answer? Finishes the prefill above layer B and decodes (Eq. 8-9).

Direct route: the coarse state goes through layers B+1..L. Zoom route: the state up to the end of
the chosen picture is kept, the RoI and everything behind it goes through layers 1..B, and the
whole sequence through B+1..L. Then one token at a time for all running requests together.
"""

from collections.abc import Iterator, Sequence
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
from qzoom.model.resumption import Chunk, ResumeInput, Resumption, Roi, fresh_rows
from qzoom.model.stack import DecoderStack, TokenLayerCounter, load_layers

__all__ = ["Decoder", "ResumeInput", "Resumption", "Roi"]


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

    def slot_bytes(self, max_len: int) -> int:
        """Memory of one slot of a cache."""
        heads, size = self._backbone.num_kv_heads, self._backbone.head_size
        per_token = 2 * self._backbone.num_layers * heads * size
        return per_token * max_len * self.head.weight.element_size()

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
        tail = self.tail(prompt, proposal, roi_grid)
        return tail.kept + len(tail.ids)

    @torch.inference_mode()
    def begin(self, cache: SlotCache, item: ResumeInput) -> Resumption:
        """Place in a slot what is known of a request; `advance` computes the rest.

        Raises:
            TooLarge: If the sequence does not fit a slot; nothing is written then.
            ValueError: If the encodings do not match the prompt.
        """
        prompt, roi = item.state.prompt, item.roi
        tail = self.tail(prompt, roi.proposal, roi.grid) if roi else None
        resumption = Resumption.of(item, tail)
        cache.check_fits(resumption.length)
        start = 0
        for kv in item.past:
            end = start + kv.shape[-2]
            cache.kv[:, :, item.slot, :, start:end] = kv
            start = end
        lower = cache.kv[: self.config.split_layer, :, item.slot]
        item.state.copy_kv(lower, start, resumption.kept)
        return resumption

    @torch.inference_mode()
    def advance(self, cache: SlotCache, steps: Sequence[tuple[Resumption, int]]) -> Tensor:
        """Run the next tokens of some prompts through the layers that they still need.

        Args:
            cache: From `new_cache`.
            steps: Requests that have begun, each once, and for how many tokens, at least 1.

        Returns:
            logits_RC: Of the first token of the answer, float32, for those whose prompt ends with
                this step, in order.

        Raises:
            ValueError: If the encodings do not match the prompt; the steps may be tried again.
        """
        chunks = [Chunk(resumption, tokens) for resumption, tokens in steps]
        lengths, pasts = [chunk.length for chunk in chunks], [chunk.start for chunk in chunks]
        slots = [chunk.resumption.slot for chunk in chunks]
        positions = np.concatenate([chunk.positions for chunk in chunks], axis=1)
        rope = self._rope(positions, self.head.weight.dtype)
        hidden_TD = self._lower_pass(cache, chunks, rope)
        store = SlotSegments(cache, slots, pasts, lengths)
        attention = PackedAttention(lengths, pasts=pasts, store=store, device=self._device)
        ending = [index for index, chunk in enumerate(chunks) if chunk.is_last]
        last_RD = self.upper.last_rows(
            hidden_TD, rope, attention, requests=ending, trim=self._trim, counter=self.counter
        )
        for chunk in chunks:
            chunk.resumption.done = chunk.end
        for index in ending:
            slot, done = slots[index], chunks[index].resumption
            cache.lengths[slot] = done.length
            cache.next_positions[slot] = next_position(done.positions)
        return self._logits(last_RD)

    def resume(self, cache: SlotCache, inputs: Sequence[ResumeInput]) -> Tensor:
        """Finish the prefill of requests of any lengths and routes at once, filling their slots.

        Returns:
            logits_RC: Of the first token of each answer, float32.

        Raises:
            TooLarge: If a sequence does not fit a slot.
            ValueError: If the encodings do not match the prompt.
        """
        begun = [self.begin(cache, item) for item in inputs]
        return self.advance(cache, [(one, one.remaining) for one in begun])

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

    def _lower_pass(self, cache: SlotCache, chunks: Sequence[Chunk], rope: Rope) -> Tensor:
        """Run the zoomed tails through layers 1..B (Eq. 8) and join the states (Eq. 9).

        Returns:
            hidden_TD: Output of layer B for the packed chunks.
        """
        zooms = [chunk for chunk in chunks if chunk.num_fresh]
        fresh: Iterator[Tensor] = iter(())
        if zooms:
            lengths = [chunk.num_fresh for chunk in zooms]
            pasts = [chunk.end - chunk.num_fresh for chunk in zooms]
            store = SlotSegments(cache, [c.resumption.slot for c in zooms], pasts, lengths)
            attention = PackedAttention(lengths, pasts=pasts, store=store, device=self._device)
            rows = fresh_rows(chunks).to(self._device)
            hidden_TD, deepstack = self.embedding([chunk.segment() for chunk in zooms])
            hidden_TD = self.lower(
                hidden_TD,
                (rope[0][rows], rope[1][rows]),
                attention,
                deepstack=deepstack,
                counter=self.counter,
            )
            fresh = iter(torch.split(hidden_TD, lengths))
        parts: list[Tensor] = []
        for chunk in chunks:
            known = chunk.end - chunk.num_fresh
            if known > chunk.start:
                state = chunk.resumption.state
                parts.append(state.hidden(chunk.start, known).to(self._device))
            if chunk.num_fresh:
                parts.append(next(fresh))
        return torch.cat(parts)

    def tail(self, prompt: Prompt, proposal: Proposal, roi_grid: tuple[int, int]) -> ZoomTail:
        """Lay out what follows the reused prefix on the zoom route.

        Raises:
            ValueError: If the prompt does not hold the proposal's picture.
        """
        return zoom_tail(prompt, proposal, roi_grid, self.config, mrope=self._backbone.mrope)

    def _rope(self, positions: NDArray[np.float32], dtype: torch.dtype) -> Rope:
        return self._backbone.rope(self.rotary, positions, dtype=dtype, device=self._device)

    def _logits(self, hidden_RD: Tensor) -> Tensor:
        logits_RC: Tensor = self.head(self.norm(hidden_RD))
        return logits_RC.float()
