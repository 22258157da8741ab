"""Table VII: how many self-made labels are needed, beside labels from true boxes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.ablation.report import Report, figures
from evaluation.ablation.workshop import Workshop
from evaluation.modes import Mode
from qzoom.data.readers import Problems
from qzoom.data.record import Record
from qzoom.data.records import open_records
from training.labels.jobs import PICTURES_PER_SHARD, shard_part
from training.labels.shards import LabelFolder, Shard, group_pictures

CELL_PX = 28


def run(workshop: Workshop) -> Report:
    """Train RPNs on growing parts of the labels, and one on true boxes."""
    total = LabelFolder.open(workshop.labels()).job["shards"]
    rows = []
    for shards in sorted({max(1, total // part) for part in (8, 4, 2, 1)}):
        name = f"labels-{shards}"
        labels = workshop.labels() if shards == total else workshop.subset(name, shards)
        model = workshop.rpn(f"data-{shards}", labels=labels)
        pictures = min(shards * PICTURES_PER_SHARD, workshop.schedule.pictures)
        found = figures(workshop.summary(model, Mode("zoom")))
        rows.append({"labels": "self-made", "pictures": pictures, **found})
    model = workshop.rpn("data-truth", labels=true_box_labels(workshop))
    found = figures(workshop.summary(model, Mode("zoom")))
    rows.append({"labels": "true boxes", "pictures": workshop.schedule.pictures, **found})
    return Report("table-7", "Amount of labels, and labels from true boxes (Table VII)", rows)


def true_box_labels(workshop: Workshop) -> Path:
    """Labels whose attention is the evidence box itself, in the format of the self-made ones."""
    source, out = LabelFolder.open(workshop.labels()), workshop.folder / "labels-truth"
    folder = LabelFolder.create(out, {**source.job, "part_of": "labels-truth"})
    groups = group_pictures(open_records(source.job["data"], Problems()))
    for number in folder.missing():
        folder.write(number, _shard(shard_part(groups, number)))
    return out


def _shard(groups: Sequence[Sequence[Record]]) -> Shard:
    records, maps = [], []
    for group in groups:
        height, width = group[0].picture.load().shape[:2]
        grid = max(1, round(height / CELL_PX)), max(1, round(width / CELL_PX))
        for record in group:
            if record.evidence_px is None:
                continue
            maps.append(_covered(record.evidence_px, (width, height), grid).flatten())
            records.append(
                {"id": record.id, "question": record.question, "response": record.answers[0],
                 "grid": list(grid), "size_px": [width, height]}
            )  # fmt: skip
    attention = np.concatenate(maps).astype(np.float16)
    zeros, ones = np.zeros_like(attention), np.ones_like(attention)
    return Shard(records, {"attention": attention, "sink_mass": zeros, "norms": ones})


def _covered(
    box: tuple[float, float, float, float], size_px: tuple[int, int], grid: tuple[int, int]
) -> np.ndarray:
    """Share of each cell [H, W] that the box covers."""
    shares = []
    for low, high, length, cells in (
        (box[1], box[3], size_px[1], grid[0]), (box[0], box[2], size_px[0], grid[1]),
    ):  # fmt: skip
        edges = np.linspace(0, length, cells + 1)
        overlap = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
        shares.append(np.maximum(overlap, 0) / (length / cells))
    return np.outer(shares[0], shares[1])
