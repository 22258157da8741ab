"""Prompts of many questions about one picture: what they share, and what is each one's own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qzoom.contracts.stages import Prompt
from qzoom.model.positions import ZoomTail
from qzoom.model.state import VisualTokens


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive tokens of one sequence.

    Attributes:
        ids: Token ids [T], int32; visual tokens hold the placeholder's id.
        positions: M-RoPE positions [3, T], float32.
        visual: (first token, encoding) of the pictures in it.
    """

    ids: NDArray[np.int32]
    positions: NDArray[np.float32]
    visual: tuple[tuple[int, VisualTokens], ...] = ()

    def __len__(self) -> int:
        """T."""
        return len(self.ids)

    def followed_by(self, ids: Sequence[int]) -> "Piece":
        """The same piece with text behind it."""
        if not len(ids):
            return self
        first = float(self.positions[:, -1].max()) + 1
        row = first + np.arange(len(ids), dtype=np.float32)
        return Piece(
            np.concatenate([self.ids, np.asarray(ids, np.int32)]),
            np.concatenate([self.positions, np.stack([row, row, row])], axis=1),
            self.visual,
        )


def shared_beginning(prompts: Sequence[Prompt], visual: VisualTokens) -> Piece:
    """Everything up to the end of the picture's tokens.

    Args:
        prompts: Of questions about one picture, which comes before their words.
        visual: Its encoding.

    Raises:
        ValueError: If the prompts do not begin alike.
    """
    first = prompts[0]
    end = first.prefix_len
    for prompt in prompts[1:]:
        if prompt.prefix_len != end or not np.array_equal(prompt.ids[:end], first.ids[:end]):
            raise ValueError("the prompts of one picture must begin alike up to its end")
    start = first.spans[0].start
    return Piece(first.ids[:end], first.positions[:, :end], ((start, visual),))


def direct_tail(prompt: Prompt) -> Piece:
    """What follows the picture on the direct route."""
    end = prompt.prefix_len
    return Piece(prompt.ids[end:], prompt.positions[:, end:])


def zoomed_tail(tail: ZoomTail, roi: VisualTokens) -> Piece:
    """What follows the picture on the zoom route: the RoI, then the question."""
    return Piece(tail.ids, tail.positions, ((tail.visual[0][0], roi),))
