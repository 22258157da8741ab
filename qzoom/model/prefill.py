"""Does the coarse picture suffice? Layers 1..B over the whole prompt, then the gate (Eq. 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from qzoom.contracts.conversation import Conversation
from qzoom.contracts.stages import Prompt
from qzoom.model.attention import PackedAttention
from qzoom.model.backbones import TextBackbone, text_backbone
from qzoom.model.cache import PackedKV
from qzoom.model.config import QZoomConfig
from qzoom.model.embedding import EMBEDDINGS, InputEmbedding, Segment
from qzoom.model.heads import Rope
from qzoom.model.loading import Checkpoint
from qzoom.model.parameters import assign_tensors
from qzoom.model.positions import coarse_positions
from qzoom.model.prompts import PromptBuilder
from qzoom.model.stack import DecoderStack, TokenLayerCounter, load_layers
from qzoom.model.state import PrefillState, StatePart, VisualTokens


@dataclass(frozen=True, slots=True)
class PrefillInput:
    """One request.

    Attributes:
        prompt: From `PrefillGate.tokenize`.
        visuals: The coarse encodings, in the order of the request's pictures.
        want_gate: Whether p(refine) is asked for.
    """

    prompt: Prompt
    visuals: Sequence[VisualTokens]
    want_gate: bool = True


@dataclass(frozen=True, slots=True)
class PrefillOutput:
    """One request.

    Attributes:
        p_refine: Probability that the coarse picture does not suffice, in [0, 1]; None where
            there is no gate or none was asked for.
        state: State after layer B.
    """

    p_refine: float | None
    state: PrefillState


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
        prompts = [item.prompt for item in inputs]
        lengths = [len(prompt.ids) for prompt in prompts]
        hidden_TD, deepstack = self.embedding([_segment(item) for item in inputs])
        positions = np.concatenate([prompt.positions for prompt in prompts], axis=1)
        rope = self._backbone.rope(
            self.rotary, positions, dtype=hidden_TD.dtype, device=self._device
        )
        shape_KTE = (self._backbone.num_kv_heads, sum(lengths), self._backbone.head_size)
        store = PackedKV(
            self.config.split_layer, shape_KTE, dtype=hidden_TD.dtype, device=self._device
        )
        attention = PackedAttention(lengths, store=store, device=self._device)
        hidden_TD = self.lower(
            hidden_TD, rope, attention, deepstack=deepstack, counter=self.counter
        )
        scores = self._score([item.want_gate for item in inputs], lengths, hidden_TD, rope)
        bounds = list(pairwise(np.cumsum([0, *lengths]).tolist()))
        return [
            PrefillOutput(score, _state(prompt, store.kv, hidden_TD, start, end))
            for prompt, score, (start, end) in zip(prompts, scores, bounds, strict=True)
        ]

    def _score(
        self, wanted: Sequence[bool], lengths: Sequence[int], hidden_TD: Tensor, rope: Rope
    ) -> list[float | None]:
        """Run the gate for those who ask: h_last of its R layers, linear, sigmoid (Eq. 3)."""
        if self.gate is None or self.head is None or not any(wanted):
            return [None] * len(wanted)
        if not all(wanted):
            of_request = torch.repeat_interleave(torch.tensor(wanted), torch.tensor(lengths))
            rows = torch.nonzero(of_request).flatten().to(self._device)
            hidden_TD, rope = hidden_TD[rows], (rope[0][rows], rope[1][rows])
        attention = PackedAttention(
            [n for n, want in zip(lengths, wanted, strict=True) if want], device=self._device
        )
        last_RD = self.gate.last_rows(
            hidden_TD, rope, attention, trim=self._trim, counter=self.counter
        )
        scores = iter(torch.sigmoid(self.head(last_RD).float())[:, 0].tolist())
        return [next(scores) if want else None for want in wanted]


def _segment(item: PrefillInput) -> Segment:
    visual = []
    for span in item.prompt.spans:
        if not 0 <= span.image < len(item.visuals):
            raise ValueError(f"picture {span.image} of {len(item.visuals)} is not encoded")
        tokens = item.visuals[span.image]
        if tokens.grid != span.grid:
            raise ValueError(f"picture {span.image} is {tokens.grid}, the prompt says {span.grid}")
        visual.append((span.start, tokens))
    return Segment(item.prompt.ids, tuple(visual))


def _state(prompt: Prompt, kv: Tensor, hidden_TD: Tensor, start: int, end: int) -> PrefillState:
    split = start + prompt.prefix_len
    return PrefillState(
        prompt,
        prefix=StatePart(kv[..., start:split, :], hidden_TD[start:split]),
        suffix=StatePart(kv[..., split:end, :], hidden_TD[split:end]),
    )
