"""Fig. 9: gates on consistency-aware labels against gates on naive ones.

Both learn from the same answers along the trajectory of resolutions, on the same base and with the
same RPN; only the rule from answers to labels differs. A gate is judged at every threshold: how
accurate is the whole at each share of questions that it keeps from zooming?
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.ablation.report import Cell, Report
from evaluation.ablation.workshop import Workshop
from evaluation.modes import Mode
from evaluation.plots import Lines, plot_gates
from qzoom.metrics.intervals import Mean
from training.stages.curve import read_curve

RULES = ("consistency", "naive")
RESAMPLES = 500

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """Everything that the comparison is made of, by question.

    Attributes:
        direct: Score of the direct answer [N].
        zoomed: Score of the zoomed answer [N].
        p_refine: By rule, a row for each seed [seeds, N].
    """

    direct: Scores
    zoomed: Scores
    p_refine: dict[str, Scores]


def run(workshop: Workshop) -> Report:
    """Train gates by both rules with several seeds, and compare their curves."""
    seeds = range(workshop.schedule.seeds)
    gates = {
        rule: [
            workshop.gate(f"gate-{rule}-{seed}", [f"gate_labels.rule={rule}", f"gate.seed={seed}"])
            for seed in seeds
        ]
        for rule in RULES
    }
    judged = Judged(
        np.array([r.score for r in workshop.ask(workshop.model, Mode("base"))]),
        np.array([r.score for r in workshop.ask(workshop.model, Mode("zoom"))]),
        {rule: np.array([_scores(workshop, m) for m in models]) for rule, models in gates.items()},
    )
    rows: list[dict[str, Cell]] = [
        {"labels": rule, "seed": seed, "mean accuracy over all ratios": area(judged, rule, seed)}
        for rule in RULES
        for seed in seeds
    ]
    picture, gap = "figure-9.png", area_between(judged)
    losses = {rule: [_losses(model.parent / "run") for model in gates[rule]] for rule in RULES}
    accuracy = {
        rule: [list(curve(judged.direct, judged.zoomed, row)) for row in judged.p_refine[rule]]
        for rule in RULES
    }
    plot_gates(losses, accuracy, workshop.folder / picture)
    notes = [
        f"Area between the curves, consistency less naive: {gap.value:+.4f} "
        f"({gap.low:+.4f} .. {gap.high:+.4f}, 95 %, seeds and questions resampled).",
        f"{len(judged.direct)} questions; direct {judged.direct.mean():.3f}, "
        f"always zooming {judged.zoomed.mean():.3f}.",
    ]
    title = "Labels of the gate (Fig. 9)"
    return Report("figure-9", title, rows, pictures=[picture], notes=notes)


def curve(direct: Scores, zoomed: Scores, p_refine: Scores) -> Scores:
    """Accuracy when the k questions with the lowest scores are kept from zooming, k = 0 .. N."""
    order = np.argsort(p_refine, kind="stable")
    gained: Scores = np.concatenate([[0.0], np.cumsum((direct - zoomed)[order])])
    return (float(zoomed.sum()) + gained) / len(direct)


def area(judged: Judged, rule: str, seed: int) -> float:
    """Mean accuracy over all shares of questions that are kept from zooming."""
    return float(curve(judged.direct, judged.zoomed, judged.p_refine[rule][seed]).mean())


def area_between(judged: Judged) -> Mean:
    """Mean over seeds of the first rule's area less the second's, with its interval."""
    first, second = (judged.p_refine[rule] for rule in RULES)

    def gap(seeds: Sequence[int] | NDArray[np.int64], chosen: NDArray[np.int64]) -> float:
        direct, zoomed = judged.direct[chosen], judged.zoomed[chosen]
        gaps = [
            curve(direct, zoomed, first[s][chosen]).mean()
            - curve(direct, zoomed, second[s][chosen]).mean()
            for s in seeds
        ]
        return float(np.mean(gaps))

    count, questions = len(first), len(judged.direct)
    rng = np.random.default_rng(0)
    drawn = [
        gap(rng.integers(0, count, count), rng.integers(0, questions, questions))
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Mean(gap(range(count), np.arange(questions)), float(low), float(high), count)


def _scores(workshop: Workshop, model: Path) -> list[float]:
    # A tau_gate of 1 leaves nearly all on the cheap route; only p(refine) is wanted.
    return [r.p_refine or 0.0 for r in workshop.ask(model, Mode("auto", tau_gate=1.0))]


def _losses(run_folder: Path) -> Lines:
    return [float(row[1]) for row in read_curve(run_folder)]
