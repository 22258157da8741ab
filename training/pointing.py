"""Auxiliary loss: the words that name an item must look at that item.

Finding "the red star" by what it looks like is what a small model learns last from answers alone;
one decoder layer's attention, from the last word of the reference to the image tokens, is taught it
directly. Words that name a place learn it the same way.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from qzoom.data.scene import Box
from training.batch import Batch
from training.pixels import Grid

_FLOOR = 1e-4
"""Smallest mass that is told apart, so that a wrong look costs no more than 9 nats."""


def touched_cells(boxes: Sequence[Box], size: tuple[int, int], grid: Grid) -> list[int]:
    """Row-major numbers of the cells that boxes overlap."""
    rows, cols = grid
    found = set()
    for x0, y0, x1, y1 in boxes:
        for row in range(math.floor(y0 / size[1] * rows), math.ceil(y1 / size[1] * rows)):
            for col in range(math.floor(x0 / size[0] * cols), math.ceil(x1 / size[0] * cols)):
                if 0 <= row < rows and 0 <= col < cols:
                    found.add(row * cols + col)
    return sorted(found)


class Pointers:
    """Where each reference of a batch ends, and which cells it names (direct layouts only)."""

    def __init__(self, batch: Batch) -> None:
        rows: list[int] = []
        tokens: list[int] = []
        starts: list[int] = []
        cells: list[list[int]] = []
        grids: list[Grid] = []
        for row, sample in enumerate(batch.samples):
            at = 0
            for index, segment in enumerate(sample.tree.segments):
                pointer = sample.pointers.get(index)
                if pointer is not None:
                    question, grid = sample.asked[index], sample.tree.grid
                    named = touched_cells(question.referents_px, sample.size_px, grid)
                    if named:
                        rows.append(row)
                        tokens.append(at + pointer)
                        starts.append(sample.tree.image_start)
                        cells.append(named)
                        grids.append(grid)
                at += len(segment.ids)
        self.rows, self.tokens = torch.tensor(rows), torch.tensor(tokens)
        num_cells = max((g[0] * g[1] for g in grids), default=0)
        self.columns = torch.tensor(starts)[:, None] + torch.arange(num_cells)
        self.named = torch.zeros(len(rows), num_cells, dtype=torch.bool)
        self.valid = torch.zeros_like(self.named)
        for index, (named, grid) in enumerate(zip(cells, grids, strict=True)):
            self.named[index, named] = True
            self.valid[index, : grid[0] * grid[1]] = True

    def loss(self, query_RHTE: Tensor, key_RKTE: Tensor) -> Tensor:
        """Mean of -log(attention on the named cells), attention over image tokens only.

        Args:
            query_RHTE: Rotated queries of a layer.
            key_RKTE: Rotated keys of the same layer.
        """
        if not len(self.rows):
            return query_RHTE.new_zeros(())
        groups = query_RHTE.shape[1] // key_RKTE.shape[1]
        query = query_RHTE.transpose(1, 2)[self.rows, self.tokens]
        columns = self.columns.clamp(max=key_RKTE.shape[2] - 1)
        keys = key_RKTE.repeat_interleave(groups, dim=1).transpose(1, 2)
        keys = keys[self.rows[:, None], columns]
        scores = torch.einsum("phe,pvhe->phv", query, keys) * query.shape[-1] ** -0.5
        scores = scores.masked_fill(~self.valid[:, None], float("-inf"))
        mass = (scores.softmax(dim=-1) * self.named[:, None]).sum(dim=-1).mean(dim=1)
        loss: Tensor = -(mass + _FLOOR).log().mean()
        return loss
