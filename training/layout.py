"""Sequences of the served system, many questions per picture in one training sample.

A sample is a tree of segments: [prompt up to the image] -> [RoI block] -> [question and answer]
-> next turn. A token sees its own segment and those above it, and positions restart in each
branch, so every path from the root is exactly one request as qzoom.model lays it out (preset
`paper`).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from training.pixels import Grid
from training.tokenizer import SYSTEM_PROMPT

CellBox = tuple[int, int, int, int]
"""(x1, y1, x2, y2) in cells of the coarse grid, half open."""

IGNORE = -100
ROOT = -1


class Prompts:
    """Token ids of the chat template's pieces."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.image_pad = self._id("<|image_pad|>")
        self.vision_start = self._id("<|vision_start|>")
        self.vision_end = self._id("<|vision_end|>")
        self.user = self.encode("<|im_start|>user\n")
        self.system = self.encode(f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n")
        self.ask_answer = self.encode("<|im_end|>\n<|im_start|>assistant\n")
        self.next_turn = self.encode("\n<|im_start|>user\n")
        self.end = self._id("<|im_end|>")
        self.pad = self._id("<|endoftext|>")

    def word(self, word: str) -> int:
        """Token id of a whole word of the vocabulary."""
        (found,) = self.encode(word)
        return found

    def encode(self, text: str) -> list[int]:
        """Token ids of a text without added tokens."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _id(self, token: str) -> int:
        found = self._tokenizer.convert_tokens_to_ids(token)
        assert isinstance(found, int)
        return found


@dataclass(slots=True)
class Segment:
    """Consecutive tokens with one set of ancestors."""

    parent: int
    ids: list[int]
    positions: NDArray[np.float32]
    """[3, n] M-RoPE positions."""
    labels: list[int]
    """Token that must follow each position, IGNORE where nothing is learnt."""
    next_position: float
    """Position of the first text token after this segment."""


def text_positions(start: float, count: int) -> NDArray[np.float32]:
    """[3, count]: equal on all axes, counting up."""
    row = np.arange(count, dtype=np.float32) + np.float32(start)
    return np.broadcast_to(row, (3, count))


def image_positions(s: int, grid: Grid) -> NDArray[np.float32]:
    """[3, H * W] positions of the source image's tokens.

    Args:
        s: Position of the first image token.
        grid: (H, W).
    """
    rows, cols = np.meshgrid(np.arange(grid[0]), np.arange(grid[1]), indexing="ij")
    t = np.full(rows.size, s)
    return np.stack([t, s + rows.ravel(), s + cols.ravel()]).astype(np.float32)


def roi_positions(s: int, grid: Grid, roi: Grid, box: CellBox) -> NDArray[np.float32]:
    """[3, H' * W'] positions of RoI tokens inside the source (Q-Zoom, Eq. (15)).

    Args:
        s: Position of the first source image token.
        grid: (H, W) of the source.
        roi: (H', W') of the RoI.
        box: Where the RoI lies in the source grid.
    """
    x1, y1, x2, y2 = box
    h = s + y1 + np.arange(roi[0]) / max(roi[0] - 1, 1) * (y2 - y1)
    w = s + x1 + np.arange(roi[1]) / max(roi[1] - 1, 1) * (x2 - x1)
    rows, cols = np.meshgrid(h, w, indexing="ij")
    t = np.full(rows.size, s + min(grid))
    return np.stack([t, rows.ravel(), cols.ravel()]).astype(np.float32)


@dataclass(slots=True)
class Tree:
    """One sample under construction."""

    prompts: Prompts
    segments: list[Segment] = field(default_factory=list)
    image_start: int = 0
    """s, index and position of the first source image token."""
    grid: Grid = (0, 0)

    def add_image(self, grid: Grid, with_system: bool) -> int:
        """Root segment: everything up to the end of the image block."""
        p = self.prompts
        before = (p.system if with_system else []) + p.user + [p.vision_start]
        s, count = len(before), grid[0] * grid[1]
        positions = np.concatenate([text_positions(0, s), image_positions(s, grid)], axis=1)
        self.image_start, self.grid = s, grid
        ids = before + [p.image_pad] * count
        return self._add(Segment(ROOT, ids, positions, [IGNORE] * len(ids), s + max(grid)))

    def add_roi(self, parent: int, roi: Grid, box: CellBox) -> int:
        """[source vision_end][vision_start RoI vision_end] of the zoom route."""
        p, e = self.prompts, self.image_start + max(self.grid)
        count = roi[0] * roi[1]
        positions = np.concatenate(
            [
                text_positions(e + 1, 2),
                roi_positions(self.image_start, self.grid, roi, box),
                text_positions(e + 3, 1),
            ],
            axis=1,
        )
        ids = [p.vision_end, p.vision_start] + [p.image_pad] * count + [p.vision_end]
        return self._add(Segment(parent, ids, positions, [IGNORE] * len(ids), e + 4))

    def add_question(self, parent: int, question: str, answer: str) -> int:
        """A user turn and its answer below the image, the RoI or an earlier answer.

        Below the image the source vision_end comes first: its position depends on the route.
        """
        p, above = self.prompts, self.segments[parent]
        lead: list[int] = []
        if above.parent == ROOT:
            lead = [p.vision_end]
        elif any(label != IGNORE for label in above.labels):
            lead = list(p.next_turn)
        prompt = lead + p.encode(question) + p.ask_answer
        reply = [*p.encode(answer), p.end]
        labels = [IGNORE] * (len(prompt) - 1) + reply + [IGNORE]
        ids = prompt + reply
        positions = text_positions(above.next_position, len(ids))
        following = above.next_position + len(ids)
        return self._add(Segment(parent, ids, positions, labels, following))

    def visible(self) -> NDArray[np.bool_]:
        """[T, T]: may token i (row) see token j (column)?"""
        count = len(self.segments)
        above = np.eye(count, dtype=bool)
        for index, segment in enumerate(self.segments):
            if segment.parent != ROOT:
                above[index] |= above[segment.parent]
        number = np.repeat(np.arange(count), [len(s.ids) for s in self.segments])
        tokens = len(number)
        visible: NDArray[np.bool_] = above[number][:, number] & np.tri(tokens, dtype=bool)
        return visible

    def _add(self, segment: Segment) -> int:
        self.segments.append(segment)
        return len(self.segments) - 1
