"""Does the gate look? It must be no better than chance where there is nothing to see.

Balanced accuracy of the gate (detail against the rest), of the same gate with the picture blanked,
and of a classifier that knows the question's words only. The threshold of the blanked one is the
best that there is, so that a shifted score does not hide what it knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.ablation.report import Cell, Report
from evaluation.ablation.workshop import Workshop
from evaluation.controls import balanced_accuracy, words_accuracy
from evaluation.dataset import DataSet
from evaluation.modes import Mode
from evaluation.results import Result
from qzoom.data.record import PictureSource
from qzoom.errors import InvalidRequest
from qzoom.model.loading import open_checkpoint

GREY = 128


@dataclass(frozen=True, slots=True)
class Blanked:
    """A picture of the same size without anything on it."""

    source: PictureSource

    @property
    def key(self) -> str:
        """Of the picture that it stands for."""
        return f"blank:{self.source.key}"

    def load(self) -> NDArray[np.uint8]:
        """Grey, [H, W, 3]."""
        return np.full_like(self.source.load(), GREY)


def run(workshop: Workshop) -> Report:
    """Measure the gate with and without its eyes."""
    data = workshop.data()
    known = [r for r in data.records if r.needs_detail is not None]
    labels = [bool(r.needs_detail) for r in known]
    if len(set(labels)) < 2:
        raise InvalidRequest(f"{data.name} does not tell which questions need detail")
    tau = open_checkpoint(workshop.model).qzoom.tau_gate
    seen = _scores(workshop, replace(data, records=known))
    blank = [replace(r, picture=Blanked(r.picture)) for r in known]
    unseen = _scores(workshop, replace(data, records=blank))
    words = words_accuracy([r.question for r in known], labels)
    rows: list[dict[str, Cell]] = [
        {"": "gate, at its threshold", "balanced accuracy": balanced_accuracy(
            labels, [p >= tau for p in seen])},
        {"": "gate, best threshold", "balanced accuracy": best_accuracy(labels, seen)},
        {"": "gate, picture blanked, best threshold", "balanced accuracy": best_accuracy(
            labels, unseen)},
        {"": "words of the question alone", "balanced accuracy": words},
    ]  # fmt: skip
    notes = [f"{len(known)} questions, {sum(labels)} of them need detail; 0.5 is chance."]
    return Report("gate-controls", "Does the gate look?", rows, notes=notes)


def _scores(workshop: Workshop, data: DataSet) -> list[float]:
    # A tau_gate of 1 leaves nearly all on the cheap route; only p(refine) is wanted.
    results: list[Result] = workshop.ask(workshop.model, Mode("auto", tau_gate=1.0), data=data)
    if any(r.p_refine is None for r in results):
        raise InvalidRequest(f"{workshop.model} has no gate")
    return [r.p_refine or 0.0 for r in results]


def best_accuracy(labels: Sequence[bool], scores: Sequence[float]) -> float | None:
    """Balanced accuracy at the threshold that serves best."""
    found = [
        accuracy
        for tau in {0.0, *scores}
        if (accuracy := balanced_accuracy(labels, [p >= tau for p in scores])) is not None
    ]
    return max(found, default=None)
