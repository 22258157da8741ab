"""Does the coarse picture suffice? Layers 1..B over the whole prompt, then the gate (Eq. 3)."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from qzoom.contracts.conversation import Conversation
from qzoom.contracts.stages import Prompt
from qzoom.model.attention import KVStore, PackedAttention
from qzoom.model.backbones import TextBackbone, text_backbone
from qzoom.model.blocks import (
    GateBlock,
    PrefillInput,
    PrefillOutput,
    bounds_of,
    branches,
    output,
    per_request,
    segment,
    state_of,
)
from qzoom.model.bundled import BundledKV
from qzoom.model.cache import PackedKV
from qzoom.model.config import QZoomConfig
from qzoom.model.embedding import EMBEDDINGS, InputEmbedding
from qzoom.model.heads import Rope
from qzoom.model.loading import Checkpoint
from qzoom.model.parameters import assign_tensors
from qzoom.model.positions import coarse_positions
from qzoom.model.prompts import PromptBuilder
from qzoom.model.stack import DecoderStack, TokenLayerCounter, load_layers
from qzoom.model.state import PrefillState

__all__ = ["GateBlock", "PrefillGate", "PrefillInput", "PrefillOutput"]


class PrefillGate(nn.Module):
    """Embeddings, decoder layers 1..B, and the gating network.

    Args:
        backbone: Of the checkpoint.
        config: Of the checkpoint.
        prompts: Renders conversations; None where prompts come ready-made.
        device: Where to run.
        trim: Skip what no output needs; False to compare or to count.
        counter: Where to count (token, layer) pairs.
    """

    def __init__(
        self,
        backbone: TextBackbone,
        config: QZoomConfig,
        prompts: PromptBuilder | None,
        *,
        device: torch.device,
        trim: bool = True,
        counter: TokenLayerCounter | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.counter = counter
        self._backbone, self._prompts, self._device, self._trim = backbone, prompts, device, trim
        backbone.check(config)
        split, depth = config.split_layer, config.gate_depth
        self.embedding = InputEmbedding(backbone)
        self.rotary = backbone.rotary(device)
        self.lower = DecoderStack(backbone, range(split), name="lower")
        self.gate: DecoderStack | None = None
        self.head: nn.Linear | None = None
        if config.has_gate:
            self.gate = DecoderStack(backbone, range(split, split + depth), name="gate")
            self.head = nn.Linear(backbone.hidden_size, 1, device="meta")

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        with_prompts: bool = True,
        trim: bool = True,
        counter: TokenLayerCounter | None = None,
    ) -> Self:
        """Read this stage's tensors, and no others.

        Args:
            checkpoint: Where they are.
            device: Where to run.
            dtype: Of the parameters and the states.
            with_prompts: False leaves out tokenizer and chat template, and `tokenize` with them.
            trim: See the class.
            counter: See the class.

        Raises:
            ValueError: If the checkpoint does not fit its own configuration.
        """
        device = torch.device(device)
        stage = cls(
            text_backbone(checkpoint.family, checkpoint.hf_config),
            checkpoint.qzoom,
            PromptBuilder(checkpoint) if with_prompts else None,
            device=device,
            trim=trim,
            counter=counter,
        )
        tensors = checkpoint.tensors([EMBEDDINGS])
        stage.embedding.load(tensors, device=device, dtype=dtype)
        place = "model.language_model.layers."
        load_layers(stage.lower, checkpoint, place, device=device, dtype=dtype)
        if stage.gate is not None and stage.head is not None:
            place = "qzoom.gate.layers."
            load_layers(stage.gate, checkpoint, place, first=0, device=device, dtype=dtype)
            head = "qzoom.gate.head."
            tensors = checkpoint.tensors([head])
            assign_tensors(stage.head, tensors, head, device=device, dtype=dtype)
        return stage

    def tokenize(
        self,
        conversation: Conversation,
        grids: Sequence[tuple[int, int]],
        sizes_px: Sequence[tuple[int, int]],
    ) -> Prompt:
        """Render the chat template and place every token.

        Args:
            conversation: All turns.
            grids: (H, W) of each picture of the request, in cells.
            sizes_px: (width, height) of each source picture.

        Raises:
            InvalidRequest: If the conversation cannot be rendered.
            ValueError: If the stage was loaded without prompts.
        """
        if self._prompts is None:
            raise ValueError("this stage was loaded without prompts")
        ids, spans = self._prompts.build(conversation, grids, sizes_px)
        positions = coarse_positions(len(ids), spans, mrope=self._backbone.mrope)
        return Prompt(ids, positions, spans)

    @torch.inference_mode()
    def run(self, inputs: Sequence[PrefillInput]) -> list[PrefillOutput]:
        """Prefill requests of any lengths in one pass; each gets the result that it has alone.

        Raises:
            ValueError: If a prompt's pictures and its encodings do not match.
        """
        starts = [item.num_past for item in inputs]
        pasts = [[block.state.kv for block in item.past] for item in inputs]
        hidden_TD, deepstack = self.embedding([segment(item) for item in inputs])
        store: BundledKV | PackedKV
        if self._device.type == "cpu":
            store = self._bundled(inputs, starts, pasts, hidden_TD)
        else:
            store = self._packed(self.lower.indices, inputs, starts, pasts, hidden_TD)
        rope, attention = self._pass(inputs, starts, store, hidden_TD)
        hidden_TD = self.lower(
            hidden_TD, rope, attention, deepstack=deepstack, counter=self.counter
        )
        new = (
            store.finish(hidden_TD)
            if isinstance(store, BundledKV)
            else per_request(inputs, starts, store, hidden_TD)
        )
        states = [state_of(item, *parts) for item, parts in zip(inputs, new, strict=True)]
        scored = iter(
            self.judge([(i, s) for i, s in zip(inputs, states, strict=True) if i.want_gate])
        )
        outputs = []
        for item, state in zip(inputs, states, strict=True):
            score, branch = next(scored) if item.want_gate else (None, ())
            outputs.append(output(item, state, score, branch))
        return outputs

    def _pass(
        self,
        inputs: Sequence[PrefillInput],
        starts: Sequence[int],
        store: KVStore,
        hidden_TD: Tensor,
    ) -> tuple[Rope, PackedAttention]:
        """Prepare a pass of some layers over the tokens behind each request's past."""
        lengths = _lengths(inputs, starts)
        places = [i.prompt.positions[:, start:] for i, start in zip(inputs, starts, strict=True)]
        rope = self._backbone.rope(
            self.rotary,
            np.concatenate(places, axis=1),
            dtype=hidden_TD.dtype,
            device=self._device,
        )
        return rope, PackedAttention(lengths, pasts=starts, store=store, device=self._device)

    def _packed(
        self,
        layers: Sequence[int],
        inputs: Sequence[PrefillInput],
        starts: Sequence[int],
        pasts: Sequence[Sequence[Tensor]],
        hidden_TD: Tensor,
    ) -> PackedKV:
        shape_KE = (self._backbone.num_kv_heads, self._backbone.head_size)
        lengths = _lengths(inputs, starts)
        dtype, device = hidden_TD.dtype, self._device
        return PackedKV(layers, shape_KE, lengths, pasts, dtype=dtype, device=device)

    def _bundled(
        self,
        inputs: Sequence[PrefillInput],
        starts: Sequence[int],
        pasts: Sequence[Sequence[Tensor]],
        hidden_TD: Tensor,
    ) -> BundledKV:
        """Let the state be written where it travels from."""
        return BundledKV(
            self.config.split_layer,
            (self._backbone.num_kv_heads, self._backbone.head_size),
            self._backbone.hidden_size,
            [bounds_of(item, start) for item, start in zip(inputs, starts, strict=True)],
            pasts,
            dtype=hidden_TD.dtype,
        )

    @torch.inference_mode()
    def judge(
        self, asked: Sequence[tuple[PrefillInput, PrefillState]]
    ) -> list[tuple[float | None, tuple[Tensor, ...]]]:
        """Run the gate: h_last of its R layers, linear, sigmoid (Eq. 3).

        Args:
            asked: For each request its prompt with the first blocks that are known, whose branch
                is not computed again, and its state after layer B.

        Returns:
            For each request p(refine), and the branch's keys and values of its blocks.
        """
        if self.gate is None or self.head is None or not asked:
            return [(None, ())] * len(asked)
        inputs = [item for item, _ in asked]
        pasts = [branches(item) for item in inputs]
        # The gate may not have been asked when a block was computed: its layers start there.
        starts = [
            item.prompt.block_ends[len(past) - 1] if past else 0
            for item, past in zip(inputs, pasts, strict=True)
        ]
        hidden_TD = torch.cat(
            [
                state.hidden(start, len(state.prompt.ids))
                for (_, state), start in zip(asked, starts, strict=True)
            ]
        ).to(self._device)
        store = self._packed(self.gate.indices, inputs, starts, pasts, hidden_TD)
        rope, attention = self._pass(inputs, starts, store, hidden_TD)
        last_RD = self.gate.last_rows(
            hidden_TD, rope, attention, trim=self._trim, counter=self.counter
        )
        scores = torch.sigmoid(self.head(last_RD).float())[:, 0].tolist()
        parts = per_request(inputs, starts, store, hidden_TD)
        return [
            (score, (*past, *(part.kv for part in blocks)))
            for score, past, (blocks, _) in zip(scores, pasts, parts, strict=True)
        ]


def _lengths(inputs: Sequence[PrefillInput], starts: Sequence[int]) -> list[int]:
    """Tokens of each request that a pass computes."""
    lengths = [len(i.prompt.ids) - start for i, start in zip(inputs, starts, strict=True)]
    assert all(length > 0 for length in lengths), "nothing is left behind the given blocks"
    return lengths
