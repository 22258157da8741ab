"""Targeted Post-SFT (III-D): the language model learns to read with the RoI in place.

Sequences are exactly those that are served on the zoom route, Eq. 15 positions included. Vision
tower, projector, embeddings, final norm and branches stay frozen; all decoder layers are trained,
and the output head as in the published code. The crops are those that were mined.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from qzoom.contracts.stages import ImageSpan, Proposal
from qzoom.data.record import Record
from qzoom.model.backbones import text_backbone
from qzoom.model.decoder import Decoder
from qzoom.model.embedding import Segment
from qzoom.model.encoder import VisionEncoder
from qzoom.model.heads import Rope
from qzoom.model.loading import Checkpoint, keys
from qzoom.model.positions import zoom_tail
from qzoom.model.prompts import PromptBuilder
from qzoom.model.state import VisualTokens
from training.labels.crops import finder, propose
from training.labels.hard import KIND, Comparison, read_comparisons
from training.reading.attention import SHARED, ForestPass
from training.reading.prompts import Piece, shared_beginning, zoomed_tail
from training.reading.reader import build_prompt
from training.stages.branches import by_picture
from training.stages.joining import join, open_labels
from training.stages.passes import run_layers
from training.stages.recipe import PostSft
from training.stages.setup import base_revision

_RANDOM_SIDES = (0.1, 0.6)
"""Sides of random boxes, parts of the grid (as published)."""


@dataclass(frozen=True, slots=True)
class HardSample:
    """A question to learn.

    Attributes:
        picture: Its number.
        record: The question.
        comparison: Answer and crop.
    """

    picture: int
    record: Record
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class PostSftBatch:
    """Packed sequences.

    Attributes:
        segments: Beginnings and tails in the order of packing.
        rope: Cosines and sines of all tokens.
        attention: Of the pass.
        rows: Tokens that predict an answer token [A].
        labels: The answer tokens [A].
    """

    segments: list[Segment]
    rope: Rope
    attention: ForestPass
    rows: Tensor
    labels: Tensor


def read_hard_samples(
    folders: Sequence[Path], checkpoint: Checkpoint, plan: PostSft, data: str | None = None
) -> tuple[list[HardSample], dict[str, Any]]:
    """Choose the questions that are trained on.

    Raises:
        InvalidRequest: If model, labels and data do not fit, naming the field and both values.
    """
    revision = base_revision(checkpoint)
    hard: list[tuple[Record, Comparison]] = []
    others: list[tuple[Record, Comparison]] = []
    for path in folders:
        folder = open_labels(path, {"kind": KIND, "base_revision": revision})
        for record, comparison in join(folder, read_comparisons(folder), data):
            (hard if comparison.is_hard else others).append((record, comparison))
    count = min(len(others), round(plan.mix * len(hard)))
    mixed = np.random.default_rng(plan.seed).choice(len(others), count, replace=False)
    chosen = hard + [others[i] for i in sorted(mixed.tolist())]
    numbers: dict[str, int] = {}
    samples = [HardSample(numbers.setdefault(r.picture.key, len(numbers)), r, c) for r, c in chosen]
    return samples, {"base_revision": revision, "hard": len(hard), "mixed": count}


class PostSftTask:
    """See `training.stages.loop.Task`.

    Args:
        checkpoint: The model.
        samples: What is learnt.
        plan: How.
        suffix: Put after every question.
        device: Where to train.
        dtype: Of the vision tower.
    """

    name = "post-sft"

    def __init__(
        self,
        checkpoint: Checkpoint,
        samples: Sequence[HardSample],
        plan: PostSft,
        *,
        suffix: str,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._checkpoint, self._samples, self._plan = checkpoint, samples, plan
        self._suffix, self._device = suffix, device
        self._backbone = text_backbone(checkpoint.family, checkpoint.hf_config)
        self._prompts = PromptBuilder(checkpoint)
        self._encoder = VisionEncoder.load(checkpoint, device=device, dtype=dtype)
        self._finder = finder(checkpoint)
        self.decoder = Decoder.load(checkpoint, device=device, dtype=torch.float32)
        self.parameters = self._unfreeze()
        self.pictures = [sample.picture for sample in samples]

    def prepare(self, numbers: Sequence[int], step: int) -> PostSftBatch:
        """Lay the sequences out."""
        pieces: list[Piece] = []
        owners: list[Tensor] = []
        rows: list[int] = []
        labels: list[int] = []
        start = 0
        for _, own in by_picture(self.pictures, numbers):
            beginning, tails, answers = self._sequences(own, step)
            lengths = [len(beginning), *(len(tail) for tail in tails)]
            numbered = torch.arange(SHARED, len(tails))
            owners.append(torch.repeat_interleave(numbered, torch.tensor(lengths)).to(self._device))
            at = start + lengths[0]
            for tail, answer in zip(tails, answers, strict=True):
                at += len(tail)
                rows += range(at - len(answer), at)
                labels += answer
            pieces += [beginning, *tails]
            start = at
        positions = np.concatenate([piece.positions for piece in pieces], axis=1)
        rope = self._backbone.rope(
            self.decoder.rotary, positions, dtype=torch.float32, device=self._device
        )
        return PostSftBatch(
            [Segment(piece.ids, piece.visual) for piece in pieces],
            rope,
            ForestPass(owners),
            torch.tensor(rows, device=self._device),
            torch.tensor(labels, device=self._device),
        )

    def weight(self, prepared: PostSftBatch) -> float:
        """Answer tokens."""
        return float(len(prepared.labels))

    def loss(self, prepared: PostSftBatch) -> Tensor:
        """Cross-entropy, summed over answer tokens."""
        hidden, deepstack = self.decoder.embedding(prepared.segments)
        layers = [*self.decoder.lower.layers, *self.decoder.upper.layers]
        hidden = run_layers(
            layers,
            hidden,
            prepared.rope,
            prepared.attention,
            recompute=self._plan.recompute,
            deepstack=deepstack,
        )
        logits = self.decoder.head(self.decoder.norm(hidden[prepared.rows]))
        return functional.cross_entropy(logits.float(), prepared.labels, reduction="sum")

    def _unfreeze(self) -> dict[str, nn.Parameter]:
        found: dict[str, nn.Parameter] = {}
        for stack in (self.decoder.lower, self.decoder.upper):
            for index, layer in zip(stack.indices, stack.layers, strict=True):
                for name, parameter in layer.named_parameters():
                    found[f"model.language_model.layers.{index}.{name}"] = parameter
        if self._plan.train_head:
            is_tied = bool(self._checkpoint.hf_config.tie_word_embeddings)
            weight = self.decoder.head.weight
            assert isinstance(weight, nn.Parameter)
            found[keys.EMBEDDINGS if is_tied else keys.LM_HEAD] = weight
        for parameter in found.values():
            parameter.requires_grad_(True)
        return found

    @torch.no_grad()
    def _sequences(
        self, numbers: Sequence[int], step: int
    ) -> tuple[Piece, list[Piece], list[list[int]]]:
        """Beginning of a picture, zoomed tails with their answers behind them, answer tokens."""
        samples = [self._samples[n] for n in numbers]
        pixels = samples[0].record.picture.load()
        [visual] = self._encode([self._encoder.prepare_coarse(pixels)])
        prompts = [
            build_prompt(self._prompts, self._backbone, s.record, self._suffix, visual.grid, pixels)
            for s in samples
        ]
        crops = [
            self._crop(sample, prompt.spans[0], (step, number))
            for sample, prompt, number in zip(samples, prompts, numbers, strict=True)
        ]
        rois = self._encode([self._encoder.prepare_roi(pixels, crop) for crop in crops])
        tails, answers = [], []
        for sample, prompt, crop, roi in zip(samples, prompts, crops, rois, strict=True):
            tail = zoom_tail(
                prompt, crop, roi.grid, self._checkpoint.qzoom, mrope=self._backbone.mrope
            )
            answer = self._answer_ids(sample.comparison.truth)
            tails.append(zoomed_tail(tail, roi).followed_by(answer[:-1]))
            answers.append(answer)
        return shared_beginning(prompts, visual), tails, answers

    def _crop(self, sample: HardSample, span: ImageSpan, draw: tuple[int, int]) -> Proposal:
        random = np.random.default_rng((self._plan.seed, *draw))
        if random.random() < self._plan.random_boxes:
            height, width = span.grid
            sides = random.uniform(*_RANDOM_SIDES, 2)
            columns = max(1, round(float(sides[0]) * width))
            rows = max(1, round(float(sides[1]) * height))
            x = int(random.integers(width - columns + 1))
            y = int(random.integers(height - rows + 1))
            proposal = propose(self._finder, span, (x, y, x + columns, y + rows))
            if proposal is not None:
                return proposal
        return sample.comparison.proposal()

    def _answer_ids(self, text: str) -> list[int]:
        ids: list[int] = self._checkpoint.tokenizer.encode(text, add_special_tokens=False)
        return [*ids, self._checkpoint.eos_ids[0]]

    def _encode(self, inputs: Sequence[Any]) -> list[VisualTokens]:
        """Encodings that may stand in a graph: copies of what inference mode made."""
        return [VisualTokens(v.grid, v.features.clone()) for v in self._encoder.encode(inputs)]
