"""States after layer B: the frozen part of branch training, computed once per picture.

All questions about a picture share its beginning; their words are packed behind it. A prompt that
another one continues (an earlier turn of the same conversation) shares its tokens too, so that a
dialogue is run once and every turn's last query token asks (Eq. 13-14).
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qzoom.contracts.stages import ImageSpan, Prompt
from qzoom.data.record import Record
from qzoom.model.backbones import TextBackbone, text_backbone
from qzoom.model.embedding import Segment
from qzoom.model.encoder import VisionEncoder
from qzoom.model.heads import Rope
from qzoom.model.loading import Checkpoint
from qzoom.model.prefill import PrefillGate
from qzoom.model.prompts import PromptBuilder
from training.reading.attention import SHARED, ForestPass, TreeCache, TreePass
from training.reading.prompts import direct_tail, shared_beginning
from training.reading.reader import build_prompt
from training.reading.resolution import at_budget


@dataclass(frozen=True, slots=True)
class PictureStates:
    """One picture with its questions, after layer B.

    Attributes:
        span: Where the picture lies.
        prefix: States of the shared beginning [P, D].
        prefix_positions: [3, P].
        tails: States of each branch [t, D].
        tail_positions: [3, t] each.
        queries: (branch, row in it) of each question's last token.
    """

    span: ImageSpan
    prefix: Tensor
    prefix_positions: NDArray[np.float32]
    tails: tuple[Tensor, ...]
    tail_positions: tuple[NDArray[np.float32], ...]
    queries: tuple[tuple[int, int], ...]

    @property
    def num_bytes(self) -> int:
        """Memory of the states."""
        return sum(t.numel() * t.element_size() for t in (self.prefix, *self.tails))


@dataclass(frozen=True, slots=True)
class PackedStates:
    """Several pictures' questions, packed along the token axis.

    Attributes:
        hidden: States after layer B [T, D].
        rope: Cosines and sines of all tokens.
        attention: Of the pass.
        rows: Row of each question's last query token [Q].
        pictures: For each picture: its span, the row of its first visual token, and which
            questions of the pack ask about it.
    """

    hidden: Tensor
    rope: Rope
    attention: ForestPass
    rows: Tensor
    pictures: tuple[tuple[ImageSpan, int, range], ...]


class FrozenLower:
    """Vision tower, embeddings and layers 1..B of a checkpoint; nothing of it is trained.

    Args:
        checkpoint: Where they came from.
        encoder: Vision tower.
        prefill: Embeddings and layers.
        suffix: Put after every question.
        dtype: Of the states.
    """

    def __init__(
        self, checkpoint: Checkpoint, encoder: VisionEncoder, prefill: PrefillGate, suffix: str
    ) -> None:
        self.checkpoint, self._encoder, self._prefill = checkpoint, encoder, prefill
        self._suffix = suffix
        self.backbone: TextBackbone = text_backbone(checkpoint.family, checkpoint.hf_config)
        self._prompts = PromptBuilder(checkpoint)
        self.device = prefill.embedding.tokens.weight.device

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        suffix: str = "",
    ) -> Self:
        """Read the tensors below the split."""
        return cls(
            checkpoint,
            VisionEncoder.load(checkpoint, device=device, dtype=dtype),
            PrefillGate.load(checkpoint, device=device, dtype=dtype, with_prompts=False),
            suffix,
        )

    @torch.no_grad()
    def states(
        self, pixels: NDArray[np.uint8], records: Sequence[Record], max_tokens: int | None = None
    ) -> PictureStates:
        """Run layers 1..B once over a picture and all of its questions.

        Raises:
            InvalidRequest: If the picture's shape or the budget is not acceptable.
        """
        shown, budget = at_budget(self.checkpoint, pixels, max_tokens)
        [visual] = self._encoder.encode([self._encoder.prepare_coarse(shown, budget)])
        prompts = [
            build_prompt(self._prompts, self.backbone, r, self._suffix, visual.grid, pixels)
            for r in records
        ]
        branches, queries = share_branches(prompts)
        beginning = shared_beginning(prompts, visual)
        tails = [direct_tail(prompts[i]) for i in branches]
        pieces = [beginning, *tails]
        hidden, deepstack = self._prefill.embedding([Segment(p.ids, p.visual) for p in pieces])
        owners = _owners(len(beginning), [len(tail) for tail in tails]).to(self.device)
        positions = np.concatenate([piece.positions for piece in pieces], axis=1)
        rope = self.rope(positions, hidden.dtype)
        attention = TreePass(TreeCache.empty(self.device), owners)
        hidden = self._prefill.lower(hidden, rope, attention, deepstack=deepstack)
        parts = torch.split(hidden.clone().cpu(), [len(piece) for piece in pieces])
        return PictureStates(
            prompts[0].spans[0],
            parts[0],
            beginning.positions,
            tuple(parts[1:]),
            tuple(tail.positions for tail in tails),
            queries,
        )

    def rope(self, positions: NDArray[np.float32], dtype: torch.dtype) -> Rope:
        """Cosines and sines at these positions."""
        return self.backbone.rope(self._prefill.rotary, positions, dtype=dtype, device=self.device)

    def pack(self, chosen: Sequence[tuple[PictureStates, Sequence[int]]]) -> PackedStates:
        """Pack some questions of some pictures.

        Args:
            chosen: (picture, numbers of its questions).
        """
        hidden: list[Tensor] = []
        positions: list[NDArray[np.float32]] = []
        owners: list[Tensor] = []
        rows: list[int] = []
        pictures: list[tuple[ImageSpan, int, range]] = []
        start = 0
        for states, questions in chosen:
            branches = sorted({states.queries[q][0] for q in questions})
            lengths = [len(states.tails[b]) for b in branches]
            first = start + len(states.prefix)
            starts = dict(zip(branches, first + np.cumsum([0, *lengths])[:-1], strict=True))
            asked = range(len(rows), len(rows) + len(questions))
            pictures.append((states.span, start + states.span.start, asked))
            rows += [int(starts[states.queries[q][0]]) + states.queries[q][1] for q in questions]
            hidden += [states.prefix, *(states.tails[b] for b in branches)]
            positions += [states.prefix_positions, *(states.tail_positions[b] for b in branches)]
            owners.append(_owners(len(states.prefix), lengths).to(self.device))
            start = first + sum(lengths)
        packed = torch.cat(hidden).to(self.device).float()
        return PackedStates(
            packed,
            self.rope(np.concatenate(positions, axis=1), packed.dtype),
            ForestPass(owners),
            torch.tensor(rows, device=self.device),
            tuple(pictures),
        )


class StateStore:
    """Keeps states from one epoch to the next, up to a bound of memory.

    What does not fit is computed again: data that is read once is never worth keeping, and
    data that is read often mostly fits.

    Args:
        frozen: Computes them.
        groups: All questions by picture.
        max_bytes: Bound.
    """

    def __init__(
        self, frozen: FrozenLower, groups: Sequence[Sequence[Record]], max_bytes: int
    ) -> None:
        self._frozen, self._groups, self._free = frozen, groups, max_bytes
        self._kept: OrderedDict[tuple[int, int | None], PictureStates] = OrderedDict()

    def get(self, picture: int, max_tokens: int | None = None) -> PictureStates:
        """States of a picture and all of its questions.

        Args:
            picture: Its number.
            max_tokens: Budget; None takes the model's.
        """
        key = (picture, max_tokens)
        if key in self._kept:
            return self._kept[key]
        group = self._groups[picture]
        states = self._frozen.states(group[0].picture.load(), group, max_tokens)
        if states.num_bytes <= self._free:
            self._kept[key] = states
            self._free -= states.num_bytes
        return states


def share_branches(prompts: Sequence[Prompt]) -> tuple[list[int], tuple[tuple[int, int], ...]]:
    """Find prompts that others continue.

    Returns:
        branches: Numbers of the prompts that none continues.
        queries: For each prompt: which of the branches holds it, and the row of its last token
            there.
    """
    by_length = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i].ids), i))
    branches: list[int] = []
    queries: list[tuple[int, int]] = [(0, 0)] * len(prompts)
    for number in by_length:
        prompt = prompts[number]
        size, row = len(prompt.ids), len(prompt.ids) - prompt.prefix_len - 1
        for branch, other in enumerate(branches):
            if np.array_equal(prompts[other].ids[:size], prompt.ids):
                queries[number] = (branch, row)
                break
        else:
            queries[number] = (len(branches), row)
            branches.append(number)
    return branches, tuple(queries)


def _owners(prefix: int, lengths: Sequence[int]) -> Tensor:
    shared = torch.full((prefix,), SHARED)
    own = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(list(lengths)))
    return torch.cat([shared, own])
