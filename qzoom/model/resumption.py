"""How far is the prefill of one request? It may go on in chunks, and begin behind known state."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qzoom.contracts.stages import Prompt, Proposal
from qzoom.model.embedding import Segment
from qzoom.model.positions import ZoomTail
from qzoom.model.state import PrefillState, VisualTokens


@dataclass(frozen=True, slots=True)
class Roi:
    """What the zoom adds to the sequence.

    Attributes:
        proposal: Where the RoI lies.
        grid: (H, W) of its encoding, in cells.
        visual: Its encoding; None where the given past covers it.
        later: Encodings of the pictures behind the chosen one, in the order of the sequence.
    """

    proposal: Proposal
    grid: tuple[int, int]
    visual: VisualTokens | None
    later: tuple[VisualTokens, ...] = ()


@dataclass(frozen=True, slots=True)
class ResumeInput:
    """One request.

    Attributes:
        slot: From `SlotCache.alloc`.
        state: The coarse state; needed from the end of the past on.
        roi: None takes the direct route.
        past: Keys and values of all layers of the first tokens, [L, 2, K, S, E] each, computed
            before for the same content. Something must be left behind them.
    """

    slot: int
    state: PrefillState
    roi: Roi | None = None
    past: Sequence[Tensor] = ()


@dataclass(slots=True)
class Resumption:
    """A prefill that has begun.

    Attributes:
        slot: Where its keys and values go.
        state: The coarse state.
        roi: None on the direct route.
        tail: What follows the kept tokens on the zoom route.
        positions: Of the whole sequence, [3, length], float32.
        done: Tokens whose keys and values of all layers are in the slot.
    """

    slot: int
    state: PrefillState
    roi: Roi | None
    tail: ZoomTail | None
    positions: NDArray[np.float32] = field(repr=False)
    done: int

    @classmethod
    def of(cls, item: ResumeInput, tail: ZoomTail | None) -> Self:
        """Begin behind the given past."""
        done = sum(kv.shape[-2] for kv in item.past)
        positions = _positions(item.state.prompt, tail)
        assert done < positions.shape[1], "nothing is left behind the given past"
        return cls(item.slot, item.state, item.roi, tail, positions, done)

    @property
    def length(self) -> int:
        """Tokens of the whole sequence."""
        return int(self.positions.shape[1])

    @property
    def kept(self) -> int:
        """Tokens whose state after layer B is known."""
        return self.tail.kept if self.tail else self.length

    @property
    def remaining(self) -> int:
        """Tokens that are still to be computed."""
        return self.length - self.done


class Chunk:
    """The next tokens of one prefill.

    Args:
        resumption: The prefill.
        tokens: How many, at least 1 and at most what remains.
    """

    def __init__(self, resumption: Resumption, tokens: int) -> None:
        assert 0 < tokens <= resumption.remaining, f"{tokens} of {resumption.remaining} tokens"
        self.resumption = resumption
        self.start, self.end = resumption.done, resumption.done + tokens

    @property
    def length(self) -> int:
        """Tokens of the chunk."""
        return self.end - self.start

    @property
    def num_fresh(self) -> int:
        """Tokens at its end that go through layers 1..B too."""
        return max(0, self.end - max(self.start, self.resumption.kept))

    @property
    def is_last(self) -> bool:
        """Whether the prompt ends with it."""
        return self.end == self.resumption.length

    @property
    def positions(self) -> NDArray[np.float32]:
        """Of its tokens, [3, length]."""
        return self.resumption.positions[:, self.start : self.end]

    def segment(self) -> Segment:
        """Its fresh tokens, for the embedding.

        Raises:
            ValueError: If the encodings are missing or do not match the prompt.
        """
        one = self.resumption
        assert one.tail is not None, "the direct route has no fresh tokens"
        assert one.roi is not None, "the zoom route has an RoI"
        start, end = self.end - self.num_fresh - one.kept, self.end - one.kept
        visual = []
        encodings = (one.roi.visual, *one.roi.later)
        if len(encodings) != len(one.tail.visual):
            raise ValueError(f"{len(encodings)} encodings, the prompt has {len(one.tail.visual)}")
        for (first, count), tokens in zip(one.tail.visual, encodings, strict=True):
            low, high = max(first, start), min(first + count, end)
            if low >= high:
                continue
            if tokens is None or tokens.num_tokens != count:
                given = None if tokens is None else tokens.num_tokens
                raise ValueError(f"an RoI or picture has {given} tokens, the prompt says {count}")
            features = tokens.features[:, low - first : high - first]
            visual.append((low - start, VisualTokens(tokens.grid, features)))
        return Segment(one.tail.ids[start:end], tuple(visual))


def fresh_rows(chunks: Sequence[Chunk]) -> Tensor:
    """Packed rows of all fresh tokens in the packed chunks."""
    rows, offset = [], 0
    for chunk in chunks:
        offset += chunk.length
        rows.append(torch.arange(offset - chunk.num_fresh, offset))
    return torch.cat(rows)


def _positions(prompt: Prompt, tail: ZoomTail | None) -> NDArray[np.float32]:
    if tail is None:
        return prompt.positions
    return np.concatenate([prompt.positions[:, : tail.kept], tail.positions], axis=1)
