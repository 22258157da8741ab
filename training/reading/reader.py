"""A frozen model that reads pictures: encodes each once, answers many questions about it.

One code path for every family and size, over qzoom.model's own modules. It is what labels are made
with: answers at any budget, with or without a crop, attention of the answer's tokens to the
picture, and how likely a given answer is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qzoom.contracts.stages import Prompt, Proposal
from qzoom.data.record import Record
from qzoom.model.backbones import TextBackbone, text_backbone
from qzoom.model.decoder import Decoder
from qzoom.model.embedding import Segment
from qzoom.model.encoder import VisionEncoder
from qzoom.model.heads import Rope
from qzoom.model.images import Pixels
from qzoom.model.loading import Checkpoint
from qzoom.model.positions import coarse_positions, zoom_tail
from qzoom.model.prompts import PromptBuilder
from qzoom.model.rpn import RegionProposer, RpnInput
from qzoom.model.state import PrefillState, StatePart
from training.reading.attention import SHARED, AnswerRows, RowMeans, TreeCache, TreePass, Watch
from training.reading.prompts import Piece, direct_tail, shared_beginning, zoomed_tail
from training.reading.resolution import at_budget

Heads = Mapping[int, Sequence[int]]
"""Query heads by decoder layer, both from 0; an empty list means all heads of the layer."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer.

    Attributes:
        ids: Its tokens, the one that ended it included.
        text: The answer as text.
        attention: By layer [heads, V], float32: mean over the answer's rows of their attention to
            the picture's cells; empty where nothing was watched or the answer has no row.
    """

    ids: tuple[int, ...]
    text: str
    attention: dict[int, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class OpenPicture:
    """A picture that was read up to its end.

    Attributes:
        pixels: The source.
        prompts: One per question.
        cache: State of the beginning that the questions share.
        states: States of the beginning after layer B [P, D].
        norms: Norm of each visual token's state after layer B [V], float32.
    """

    pixels: Pixels
    prompts: tuple[Prompt, ...]
    cache: TreeCache
    states: Tensor
    norms: NDArray[np.float32]

    @property
    def grid(self) -> tuple[int, int]:
        """(H, W) in cells."""
        return self.prompts[0].spans[0].grid


class Reader:
    """Encoder and decoder of one checkpoint.

    Args:
        checkpoint: Where they came from.
        encoder: Vision tower.
        decoder: Language model.
        suffix: Put after every question (see `Record.conversation`).
    """

    def __init__(
        self, checkpoint: Checkpoint, encoder: VisionEncoder, decoder: Decoder, suffix: str = ""
    ) -> None:
        self.checkpoint, self.encoder, self.decoder = checkpoint, encoder, decoder
        self.suffix = suffix
        self.backbone: TextBackbone = text_backbone(checkpoint.family, checkpoint.hf_config)
        self._prompts = PromptBuilder(checkpoint)
        self._device = decoder.head.weight.device

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        suffix: str = "",
    ) -> Self:
        """Read the tensors of the base model.

        Raises:
            ValueError: If the checkpoint does not fit its own configuration.
        """
        return cls(
            checkpoint,
            VisionEncoder.load(checkpoint, device=device, dtype=dtype),
            Decoder.load(checkpoint, device=device, dtype=dtype),
            suffix,
        )

    def prompt(self, record: Record, grid: tuple[int, int], pixels: Pixels) -> Prompt:
        """Tokenise a question about a picture of this grid, every token in its place."""
        return build_prompt(self._prompts, self.backbone, record, self.suffix, grid, pixels)

    @torch.inference_mode()
    def open(
        self, pixels: Pixels, records: Sequence[Record], max_tokens: int | None = None
    ) -> OpenPicture:
        """Encode a picture and run the beginning that all questions share.

        Args:
            pixels: The picture.
            records: Questions about it, at least one.
            max_tokens: Budget; None takes the model's coarse one.

        Raises:
            InvalidRequest: If the picture's shape or the budget is not acceptable.
        """
        shown, budget = at_budget(self.checkpoint, pixels, max_tokens)
        [visual] = self.encoder.encode([self.encoder.prepare_coarse(shown, budget)])
        prompts = tuple(self.prompt(record, visual.grid, pixels) for record in records)
        cache = TreeCache.empty(self._device)
        beginning = shared_beginning(prompts, visual)
        owners = torch.full((len(beginning),), SHARED, device=self._device)
        span = prompts[0].spans[0]
        _, states = self._run([beginning], TreePass(cache, owners))
        norms = states[span.start :].float().norm(dim=-1).cpu().numpy()
        return OpenPicture(pixels, prompts, cache, states, norms)

    @torch.inference_mode()
    def tails(
        self,
        picture: OpenPicture,
        looks: Sequence[tuple[int, Proposal | None]],
        max_roi_tokens: int | None = None,
    ) -> list[Piece]:
        """What follows the picture, for questions with and without a crop.

        Args:
            picture: From `open`.
            looks: (number of the question, crop or None).
            max_roi_tokens: Budget of the crops; None takes the model's.
        """
        prepared = [
            self.encoder.prepare_roi(picture.pixels, proposal, max_roi_tokens)
            for _, proposal in looks
            if proposal is not None
        ]
        encoded = iter(self.encoder.encode(prepared) if prepared else [])
        pieces = []
        for question, proposal in looks:
            prompt = picture.prompts[question]
            if proposal is None:
                pieces.append(direct_tail(prompt))
                continue
            roi = next(encoded)
            tail = zoom_tail(
                prompt, proposal, roi.grid, self.checkpoint.qzoom, mrope=self.backbone.mrope
            )
            pieces.append(zoomed_tail(tail, roi))
        return pieces

    @torch.inference_mode()
    def propose(self, picture: OpenPicture, rpn: RegionProposer) -> list[Proposal | None]:
        """Ask the RPN about every question of a picture.

        Args:
            picture: Opened at the budget that the RPN is meant for.
            rpn: Of the same checkpoint.
        """
        tails = [direct_tail(prompt) for prompt in picture.prompts]
        attention = TreePass(picture.cache.fork(), _owners(tails, self._device))
        hidden = self._lower(tails, attention)[0]
        none = torch.empty(0, device=self._device)
        prefix = StatePart(none, picture.states)
        parts = torch.split(hidden, [len(tail) for tail in tails])
        inputs = [
            RpnInput(PrefillState(prompt, (prefix,), StatePart(none, part)))
            for prompt, part in zip(picture.prompts, parts, strict=True)
        ]
        return [output.proposal for output in rpn.run(inputs)]

    @torch.inference_mode()
    def answer(
        self,
        picture: OpenPicture,
        tails: Sequence[Piece],
        *,
        max_new_tokens: int,
        heads: Heads | None = None,
        rows: AnswerRows = "fed_back",
    ) -> list[Reading]:
        """Decode greedily, all tails together.

        Args:
            picture: From `open`.
            tails: From `tails`.
            max_new_tokens: Most tokens of an answer.
            heads: Whose attention to watch; None watches nothing.
            rows: Query rows whose attention is taken.
        """
        cache = picture.cache.fork()
        owners = _owners(tails, self._device)
        ends = [int(end) - 1 for end in np.cumsum([len(tail) for tail in tails])]
        watch = _watch(picture, heads) if heads else None
        prefill = TreePass(
            cache, owners, watch and replace(watch, rows=ends) if rows == "predicting" else None
        )
        hidden, _ = self._run(tails, prefill)
        at = [float(tail.positions[:, -1].max()) for tail in tails]
        found: list[list[int]] = [[] for _ in tails]
        means = RowMeans(len(tails))
        running = list(range(len(tails)))
        logits, seen = self._logits(hidden[torch.tensor(ends, device=self._device)]), prefill.rows
        while True:
            for row, (branch, token) in enumerate(
                zip(running, logits.argmax(dim=-1).tolist(), strict=True)
            ):
                found[branch].append(token)
                if rows == "fed_back" or token not in self.checkpoint.eos_ids:
                    means.add(branch, {layer: v[:, row : row + 1] for layer, v in seen.items()})
            running = [
                b
                for b in running
                if found[b][-1] not in self.checkpoint.eos_ids and len(found[b]) < max_new_tokens
            ]
            if not running:
                break
            steps = []
            for branch in running:
                at[branch] += 1
                column = np.full((3, 1), at[branch], np.float32)
                steps.append(Piece(np.array([found[branch][-1]], np.int32), column))
            step = TreePass(cache, torch.tensor(running, device=self._device), watch)
            hidden, _ = self._run(steps, step)
            logits, seen = self._logits(hidden), step.rows
        return [Reading(tuple(f), self.text(f), means.of(b)) for b, f in enumerate(found)]

    @torch.inference_mode()
    def follow(
        self,
        picture: OpenPicture,
        tails: Sequence[Piece],
        answers: Sequence[Sequence[int]],
        heads: Heads,
        rows: AnswerRows = "fed_back",
    ) -> list[Reading]:
        """Feed given answers back instead of decoding, and watch.

        Args:
            picture: From `open`.
            tails: From `tails`.
            answers: Token ids of one answer per tail, its end token included; may be empty.
            heads: Whose attention to watch.
            rows: Query rows whose attention is taken.
        """
        full = [t.followed_by(a[:-1]) for t, a in zip(tails, answers, strict=True)]
        attention = TreePass(
            picture.cache.fork(), _owners(full, self._device), _watch(picture, heads)
        )
        self._run(full, attention)
        means, start = RowMeans(len(tails)), 0
        for branch, (tail, piece) in enumerate(zip(tails, full, strict=True)):
            ahead = int(rows == "predicting")
            taken = slice(start + len(tail) - ahead, start + len(piece) - ahead)
            start += len(piece)
            means.add(branch, {layer: v[:, taken] for layer, v in attention.rows.items()})
        return [Reading(tuple(a), self.text(a), means.of(b)) for b, a in enumerate(answers)]

    @torch.inference_mode()
    def score(
        self, picture: OpenPicture, tails: Sequence[Piece], answers: Sequence[Sequence[int]]
    ) -> list[tuple[float, bool]]:
        """How likely is a given answer?

        Args:
            picture: From `open`.
            tails: From `tails`.
            answers: Token ids of one answer per tail, its end token included.

        Returns:
            scores: (mean log-probability of the tokens, whether greedy decoding gives the answer).
        """
        full = [t.followed_by(a[:-1]) for t, a in zip(tails, answers, strict=True)]
        cache = picture.cache.fork()
        hidden, _ = self._run(full, TreePass(cache, _owners(full, self._device)))
        rows: list[int] = []
        start = 0
        for tail, answer, piece in zip(tails, answers, full, strict=True):
            rows += range(start + len(tail) - 1, start + len(tail) - 1 + len(answer))
            start += len(piece)
        logits = self._logits(hidden[torch.tensor(rows, device=self._device)])
        labels = torch.tensor([i for a in answers for i in a], device=self._device)
        chosen = logits.log_softmax(dim=-1).gather(1, labels[:, None])[:, 0]
        greedy = logits.argmax(dim=-1) == labels
        sizes = [len(a) for a in answers]
        return [
            (float(part.mean()), bool(hit.all()))
            for part, hit in zip(
                torch.split(chosen, sizes), torch.split(greedy, sizes), strict=True
            )
        ]

    def answer_ids(self, text: str) -> tuple[int, ...]:
        """Tokens of an answer, with the one that ends it."""
        ids: list[int] = self.checkpoint.tokenizer.encode(text, add_special_tokens=False)
        return (*ids, self.checkpoint.eos_ids[0])

    def text(self, ids: Sequence[int]) -> str:
        """Answer tokens as text."""
        return str(self.checkpoint.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _run(self, pieces: Sequence[Piece], attention: TreePass) -> tuple[Tensor, Tensor]:
        """All layers over packed pieces: (last hidden states, states after layer B), [T, D]."""
        states, rope = self._lower(pieces, attention)
        return self.decoder.upper(states, rope, attention), states

    def _lower(self, pieces: Sequence[Piece], attention: TreePass) -> tuple[Tensor, Rope]:
        """Layers 1..B over packed pieces: their states [T, D], and the rope."""
        segments = [Segment(piece.ids, piece.visual) for piece in pieces]
        hidden, deepstack = self.decoder.embedding(segments)
        positions = np.concatenate([piece.positions for piece in pieces], axis=1)
        rope = self.backbone.rope(
            self.decoder.rotary, positions, dtype=hidden.dtype, device=self._device
        )
        return self.decoder.lower(hidden, rope, attention, deepstack=deepstack), rope

    def _logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.decoder.head(self.decoder.norm(hidden))
        return logits.float()


def build_prompt(
    prompts: PromptBuilder,
    backbone: TextBackbone,
    record: Record,
    suffix: str,
    grid: tuple[int, int],
    pixels: Pixels,
) -> Prompt:
    """Tokenise a question about a picture of this grid, every token in its place."""
    size_px = (pixels.shape[1], pixels.shape[0])
    ids, spans = prompts.build(record.conversation(suffix), [grid], [size_px])
    return Prompt(ids, coarse_positions(len(ids), spans, mrope=backbone.mrope), spans)


def _watch(picture: OpenPicture, heads: Heads) -> Watch:
    span = picture.prompts[0].spans[0]
    return Watch(heads, span.start, span.start + span.grid[0] * span.grid[1])


def _owners(pieces: Sequence[Piece], device: torch.device) -> Tensor:
    lengths = torch.tensor([len(piece) for piece in pieces], device=device)
    return torch.repeat_interleave(torch.arange(len(pieces), device=device), lengths)
