"""ViCrop's relative attention: where does this question look more than a general one does?

Attention of the prompt's last token to the picture, divided cell by cell by the same for a general
question about the picture. Of windows of several sizes at all places, the one whose mean stands out
most from its neighbours' at the same size is looked at. Two prefills come before the answer.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.answerers.base import Asked
from evaluation.baselines.rival import SecondLook, grown, record_of
from qzoom.contracts.stages import Box
from qzoom.model.images import Pixels
from qzoom.model.pipeline import Answer, Pipeline
from training.reading.prompts import Piece
from training.reading.reader import Reader

GENERAL = "Write a general description of the image."
SIDES = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
"""Sides of the windows, in units of the smallest one."""
SMALLEST = 1 / 3
"""Side of the smallest window, as a share of the picture's."""


class ViCrop:
    """Relative attention as a region proposal.

    Args:
        pipeline: The base model.
        layers: Decoder layers from 0; the one after the paper's split B if not given.
        general: The general question, in words that the model knows.
    """

    name = "ViCrop (relative attention)"

    def __init__(
        self, pipeline: Pipeline, layers: Sequence[int] | None = None, general: str = GENERAL
    ) -> None:
        checkpoint = pipeline.checkpoint
        self._reader = Reader(checkpoint, pipeline.encoder, pipeline.decoder)
        self._second = SecondLook.over(pipeline)
        self._min_side_px = checkpoint.qzoom.min_side_px
        self._general = general
        chosen = layers if layers is not None else (checkpoint.qzoom.split_layer,)
        self._heads: dict[int, Sequence[int]] = dict.fromkeys(chosen, ())

    def answer(self, pixels: Pixels, asked: Asked) -> Answer:
        """Compare two prefills' attention, look there, answer."""
        return self._second.look(pixels, asked, self.region(pixels, asked))

    def region(self, pixels: Pixels, asked: Asked) -> Box:
        """Window that the question attends to more than the general one."""
        budget = asked.options.max_visual_tokens
        own = self._last_row(pixels, asked, None, budget)
        general = self._last_row(pixels, asked, self._general, budget)
        window = best_window(own / np.maximum(general, np.float32(1e-9)))
        rows, columns = own.shape
        size_px = (pixels.shape[1], pixels.shape[0])
        x0, y0, x1, y1 = window
        scale = size_px[0] / columns, size_px[1] / rows
        box = (x0 * scale[0], y0 * scale[1], x1 * scale[0], y1 * scale[1])
        return grown(box, size_px, self._min_side_px)

    def _last_row(
        self, pixels: Pixels, asked: Asked, question: str | None, budget: int | None
    ) -> NDArray[np.float32]:
        """Attention of the prompt's last token, [H, W]."""
        picture = self._reader.open(pixels, [record_of(asked, question)], budget)
        [tail] = self._reader.tails(picture, [(0, None)])
        # The last token is fed as an answer's first, whose row is the one that is watched.
        shorter = Piece(tail.ids[:-1], tail.positions[:, :-1], tail.visual)
        last = int(tail.ids[-1])
        [reading] = self._reader.follow(picture, [shorter], [(last, last)], self._heads)
        mean = np.mean([rows.mean(axis=0) for rows in reading.attention.values()], axis=0)
        row: NDArray[np.float32] = mean.reshape(picture.grid).astype(np.float32)
        return row


def best_window(values: NDArray[np.floating]) -> tuple[int, int, int, int]:
    """Window whose mean stands out most from those at its side.

    Args:
        values: [H, W].

    Returns:
        (x0, y0, x1, y1) in cells, the ends exclusive.
    """
    rows, columns = values.shape
    table = np.zeros((rows + 1, columns + 1))
    table[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    best, chosen = -np.inf, (0, 0, columns, rows)
    for side in SIDES:
        height = min(rows, max(1, round(rows * SMALLEST * side)))
        width = min(columns, max(1, round(columns * SMALLEST * side)))
        sums = (
            table[height:, width:] - table[:-height, width:]
            - table[height:, :-width] + table[:-height, :-width]
        )  # fmt: skip
        means = sums / (height * width)
        y, x = np.unravel_index(int(means.argmax()), means.shape)
        around = [
            means[v, u]
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
            if 0 <= v < means.shape[0] and 0 <= u < means.shape[1]
        ]
        stands_out = float(means[y, x] - np.mean(around)) if around else 0.0
        if stands_out > best:
            best, chosen = stands_out, (int(x), int(y), int(x) + width, int(y) + height)
    return chosen
