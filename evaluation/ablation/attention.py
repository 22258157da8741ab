"""Fig. 5: how often does a cell of a given relative attention lie on the evidence?

Extreme values are reliable and the middle is not, which is why labels have three states.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from evaluation.ablation.report import Report
from evaluation.ablation.workshop import Workshop
from evaluation.plots import plot_attention
from qzoom.data.readers import Problems
from qzoom.data.records import open_records
from training.labels.rpn import RegionSample, read_samples
from training.labels.shards import LabelFolder

EDGES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)


def run(workshop: Workshop) -> Report:
    """Count cells of the label maps by relative attention."""
    folder = LabelFolder.open(workshop.labels())
    boxes = {r.id: r.evidence_px for r in open_records(folder.job["data"], Problems())}
    sizes = {item["id"]: item["size_px"] for shard in folder.read() for item in shard.records}
    inside, total = np.zeros(len(EDGES) - 1), np.zeros(len(EDGES) - 1)
    for sample in read_samples(folder):
        box = boxes.get(sample.id)
        if box is None:
            continue
        relative, on_evidence = cells(sample, box, sizes[sample.id])
        bins = np.clip(np.digitize(relative, EDGES) - 1, 0, len(total) - 1)
        total += np.bincount(bins, minlength=len(total))
        inside += np.bincount(bins, weights=on_evidence, minlength=len(total))
    rows = [
        {
            "a / a_max": f"{low:g}-{high:g}",
            "cells": int(total[i]),
            "on the evidence": float(inside[i] / total[i]) if total[i] else None,
        }
        for i, (low, high) in enumerate(pairwise(EDGES))
    ]
    picture = "figure-5.png"
    plot_attention(
        EDGES, list(inside / np.maximum(total, 1)), list(total), workshop.folder / picture
    )
    title = "Relative attention and the evidence (Fig. 5)"
    return Report("figure-5", title, rows, pictures=[picture])


def cells(
    sample: RegionSample, box: tuple[float, float, float, float], size_px: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """(relative attention, whether the cell's centre is on the evidence), both [H * W]."""
    attention = sample.evidence.attention
    rows, columns = attention.shape
    x = (np.arange(columns) + 0.5) * size_px[0] / columns
    y = (np.arange(rows) + 0.5) * size_px[1] / rows
    # A cell that the evidence only touches counts too: small print is smaller than a cell.
    half = size_px[0] / columns / 2, size_px[1] / rows / 2
    across = (x >= box[0] - half[0]) & (x < box[2] + half[0])
    down = (y >= box[1] - half[1]) & (y < box[3] + half[1])
    relative = attention / max(float(attention.max()), 1e-12)
    return relative.flatten(), np.outer(down, across).flatten().astype(float)
