"""Pad packed samples into tensors, and run the model over them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from training.aux import place_labels
from training.forward import TextForward, VisionForward
from training.layout import IGNORE, Prompts
from training.modes import Sample, View
from training.pixels import MERGE, patch_positions

_MERGED = MERGE * MERGE


@dataclass(frozen=True, slots=True)
class VisionBatch:
    """Padded views. N views, P patches, V = P / 4 visual tokens."""

    patches: Tensor
    positions: Tensor
    windows: Tensor
    valid: Tensor
    """[N, V] True at real visual tokens."""
    aux: tuple[Tensor, Tensor, Tensor, Tensor]
    """Labels of the valid tokens, packed."""


@dataclass(frozen=True, slots=True)
class Batch:
    """R samples, padded to T tokens."""

    vision: list[VisionBatch]
    """Views, grouped by size so that crops are not padded to full pictures."""
    ids: Tensor
    positions: Tensor
    """[3, R, T]"""
    mask: Tensor
    """[R, 1, T, T], additive."""
    labels: Tensor
    is_image: Tensor
    places: Tensor
    """[R, T] place of each token of a source picture, IGNORE elsewhere."""
    view_order: Tensor
    """Where each packed visual token of `vision` belongs in the order of the samples."""
    samples: Sequence[Sample]


def batch_views(views: Sequence[View], window_cells: int) -> VisionBatch:
    """Pad views to the largest."""
    most = max(view.patches.shape[0] for view in views)
    count = len(views)
    patches = np.zeros((count, most, views[0].patches.shape[1]), dtype=np.float32)
    positions = np.zeros((count, most, 2), dtype=np.int64)
    windows = np.full((count, most), -1, dtype=np.int64)
    for index, view in enumerate(views):
        n = view.patches.shape[0]
        patches[index, :n] = view.patches
        positions[index, :n], windows[index, :n] = patch_positions(view.grid, window_cells)
    aux = tuple(
        torch.from_numpy(np.concatenate([getattr(view.aux, name) for view in views]))
        for name in ("chars", "order", "shapes", "colours")
    )
    return VisionBatch(
        patches=torch.from_numpy(patches),
        positions=torch.from_numpy(positions),
        windows=torch.from_numpy(windows),
        valid=torch.from_numpy(windows[:, ::_MERGED] >= 0),
        aux=(aux[0], aux[1], aux[2], aux[3]),
    )


def collate(samples: Sequence[Sample], prompts: Prompts, window_cells: int) -> Batch:
    """Pad samples to the longest."""
    views = [view for sample in samples for view in sample.views]
    groups, order = _group_views(views)
    lengths = [sum(len(s.ids) for s in sample.tree.segments) for sample in samples]
    count, most = len(samples), max(lengths)
    ids = np.full((count, most), prompts.pad, dtype=np.int64)
    labels = np.full((count, most), IGNORE, dtype=np.int64)
    places = np.full((count, most), IGNORE, dtype=np.int64)
    positions = np.zeros((3, count, most), dtype=np.float32)
    visible = np.zeros((count, most, most), dtype=bool)
    visible[:, np.arange(most), np.arange(most)] = True
    for row, (sample, n) in enumerate(zip(samples, lengths, strict=True)):
        segments = sample.tree.segments
        ids[row, :n] = np.concatenate([np.asarray(s.ids) for s in segments])
        labels[row, :n] = np.concatenate([np.asarray(s.labels) for s in segments])
        positions[:, row, :n] = np.concatenate([s.positions for s in segments], axis=1)
        visible[row, :n, :n] = sample.tree.visible()
        start, grid = sample.tree.image_start, sample.tree.grid
        places[row, start : start + grid[0] * grid[1]] = place_labels(grid)
    allowed = torch.from_numpy(visible)[:, None]
    ids_tensor = torch.from_numpy(ids)
    return Batch(
        vision=[batch_views(group, window_cells) for group in groups],
        ids=ids_tensor,
        positions=torch.from_numpy(positions),
        mask=torch.zeros(allowed.shape).masked_fill_(~allowed, float("-inf")),
        labels=torch.from_numpy(labels),
        is_image=ids_tensor == prompts.image_pad,
        places=torch.from_numpy(places),
        view_order=torch.from_numpy(order),
        samples=samples,
    )


def _group_views(views: Sequence[View]) -> tuple[list[list[View]], np.ndarray]:
    """Sort views into two sizes; also the permutation from packed tokens back to sample order."""
    limit = max(v.grid[0] * v.grid[1] for v in views) // 2
    small = [i for i, v in enumerate(views) if v.grid[0] * v.grid[1] <= limit]
    large = [i for i, v in enumerate(views) if v.grid[0] * v.grid[1] > limit]
    sizes = [v.grid[0] * v.grid[1] for v in views]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    packed = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in small + large])
    order = np.argsort(packed)
    return [[views[i] for i in part] for part in (small, large) if part], order


class Forward:
    """The model over a batch."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration) -> None:
        self.model = model
        self.vision = VisionForward(model)
        self.text = TextForward(model)

    def visual_tokens(self, batch: VisionBatch) -> Tensor:
        """Packed visual tokens [sum V, D] of one group of views."""
        tokens = self.vision(batch.patches, batch.positions, batch.windows)
        return tokens[batch.valid]

    def embed(self, batch: Batch, visual_VD: Tensor) -> Tensor:
        """Input embeddings [R, T, D] with visual tokens in their places."""
        embeds = self.text.text.embed_tokens(batch.ids)
        scattered = torch.zeros_like(embeds).masked_scatter(
            batch.is_image[..., None], visual_VD[batch.view_order]
        )
        return torch.where(batch.is_image[..., None], scattered, embeds)

    def answers(self, batch: Batch, visual_VD: Tensor) -> tuple[Tensor, Tensor]:
        """Logits at every answer token, and the tokens themselves.

        Returns:
            ([A, C] logits, [A] labels), A answer tokens of the batch in order.
        """
        rope = self.text.rope(batch.positions)
        x = self.embed(batch, visual_VD)
        x = self.text.layers(x, rope, batch.mask, 1, len(self.text.text.layers))
        chosen = batch.labels != IGNORE
        return self.text.logits(x[chosen]), batch.labels[chosen]
