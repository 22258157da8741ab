"""Figures as pictures."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")  # never a window

import matplotlib.pyplot as plt

from evaluation.pareto import Point
from evaluation.summary import Summary
from qzoom.contracts.calibration import Calibration
from qzoom.metrics.intervals import Mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"base": "#5b6673", "auto": "#d1495b", "zoom": "#2e86ab", "oracle": "#66a182"}
RULE_COLOURS = ("#d1495b", "#5b6673")
NAMES = {
    "base": "base model",
    "auto": "Q-Zoom, auto",
    "zoom": "always zoom (SD-RPN)",
    "oracle": "perfect gate",
}


Lines = Sequence[float]


def plot_bars(summaries: Sequence[Summary], path: Path) -> None:
    """Draw accuracy with intervals and visual tokens, one bar for each mode."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    names = [s.mode for s in summaries]
    colours = [COLOURS.get(s.kind, "#888888") for s in summaries]
    _bars(left, names, [s.all for s in summaries], colours)
    left.set_ylabel("score")
    left.set_ylim(0, 1)
    right.bar(names, [s.visual_tokens for s in summaries], color=colours)
    right.set_ylabel("visual tokens a question")
    for axes in (left, right):
        axes.tick_params(axis="x", rotation=40)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def plot_pareto(panels: Mapping[str, Mapping[str, Sequence[Point]]], path: Path) -> None:
    """Draw Fig. 8: accuracy over throughput, one panel for each domain, one curve for each kind.

    Args:
        panels: Domain -> kind -> points.
        path: Picture to write.
    """
    count = len(panels)
    figure, rows = plt.subplots(
        1, count, figsize=(5.6 * count, 4.4), layout="constrained", squeeze=False
    )
    for axes, (domain, found) in zip(rows[0], panels.items(), strict=True):
        for kind, points in found.items():
            colour = COLOURS.get(kind, "#888888")
            ordered = sorted(points, key=lambda p: p.speed)
            heights = [p.accuracy.value for p in ordered]
            spread = [
                [p.accuracy.value - p.accuracy.low for p in ordered],
                [p.accuracy.high - p.accuracy.value for p in ordered],
            ]
            axes.errorbar(
                [p.speed for p in ordered], heights, yerr=spread, fmt="o-", color=colour,
                capsize=3, label=NAMES.get(kind, kind), alpha=0.9,
            )  # fmt: skip
            for point in ordered:
                axes.annotate(
                    f"{point.visual_tokens:.0f}", (point.speed, point.accuracy.value),
                    textcoords="offset points", xytext=(4, 6), fontsize=8, color=colour,
                )  # fmt: skip
        axes.set_xscale("log")
        for ticks in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            ticks("{x:g}")
        axes.set_xlabel("requests a CPU second (log); labels: mean visual tokens")
        axes.set_ylabel("score")
        axes.set_title("all questions" if domain == "all" else domain)
        axes.grid(alpha=0.3, which="both")
        axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def plot_calibration(found: Calibration, path: Path) -> None:
    """Draw accuracy and share of zoomed questions over tau_gate, the chosen point marked."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    taus = [p.tau_gate for p in found.gate_curve]
    axes.plot(taus, [p.accuracy for p in found.gate_curve], color=COLOURS["auto"], label="score")
    axes.fill_between(
        taus, [p.low for p in found.gate_curve], [p.high for p in found.gate_curve],
        color=COLOURS["auto"], alpha=0.2, linewidth=0,
    )  # fmt: skip
    zoomed = [p.zoom_share for p in found.gate_curve]
    axes.plot(
        taus, zoomed, color=COLOURS["base"], linestyle="--", label="share of zoomed questions"
    )
    axes.axvline(found.tau_gate, color="#222222", linewidth=1)
    axes.annotate(
        f"chosen {found.tau_gate:.3g}", (found.tau_gate, 0.02), xytext=(4, 0),
        textcoords="offset points",
    )  # fmt: skip
    axes.set_xlabel("tau_gate")
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def plot_attention(
    edges: Sequence[float], on_evidence: Sequence[float], cells: Sequence[float], path: Path
) -> None:
    """Draw Fig. 5: share of cells on the evidence, and their number, by relative attention."""
    figure, axes = plt.subplots(figsize=(6.8, 4.2), layout="constrained")
    places = range(len(on_evidence))
    axes.bar(places, on_evidence, color=COLOURS["zoom"])
    names = [f"{low:g}-{high:g}" for low, high in pairwise(edges)]
    axes.set_xticks(list(places), names, rotation=45, ha="right")
    axes.set_xlabel("attention relative to the picture's largest")
    axes.set_ylabel("share of cells on the evidence", color=COLOURS["zoom"])
    axes.set_ylim(0, 1)
    many = axes.twinx()
    many.plot(places, cells, "o-", color=COLOURS["base"], markersize=4)
    many.set_yscale("log")
    many.set_ylabel("cells (log)", color=COLOURS["base"])
    figure.savefig(path, dpi=130)
    plt.close(figure)


def plot_gates(
    losses: Mapping[str, Sequence[Lines]], accuracy: Mapping[str, Sequence[Lines]], path: Path
) -> None:
    """Draw Fig. 9: losses on the left, accuracy over the share of direct answers on the right.

    Args:
        losses: By rule, a curve for each seed.
        accuracy: By rule, a curve for each seed, from none to all questions kept direct.
        path: Picture to write.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for (rule, curves), colour in zip(losses.items(), RULE_COLOURS, strict=False):
        for number, line in enumerate(curves):
            left.plot(line, color=colour, alpha=0.6, linewidth=0.9, label="" if number else rule)
    for (rule, curves), colour in zip(accuracy.items(), RULE_COLOURS, strict=False):
        for number, line in enumerate(curves):
            shares = [i / (len(line) - 1) for i in range(len(line))]
            label = "" if number else rule
            right.plot(shares, line, color=colour, alpha=0.7, linewidth=1.1, label=label)
    left.set_xlabel("step")
    left.set_ylabel("loss of the gate")
    right.set_xlabel("share of questions kept direct (No-RoI ratio)")
    right.set_ylabel("score")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _bars(axes: "Axes", names: Sequence[str], means: Sequence[Mean], colours: list[str]) -> None:
    values = [m.value for m in means]
    spread = [[m.value - m.low for m in means], [m.high - m.value for m in means]]
    axes.bar(names, values, yerr=spread, color=colours, capsize=3)
