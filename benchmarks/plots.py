"""How does a result look? One style for all plots, readable in print and by the colour-blind."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.report import Plot

# The palette of Okabe and Ito.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DPI = 130


def draw(plot: Plot, caption: str, path: Path) -> None:
    """Draw a plot into a PNG file.

    Args:
        plot: What to draw.
        caption: Stands below it.
        path: Of the file.
    """
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    if plot.kind == "bars":
        _bars(axes, plot)
    else:
        _lines(axes, plot)
    axes.set_title(plot.title, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(plot.series) > 1:
        axes.legend(frameon=False, fontsize=9)
    figure.supxlabel(caption, fontsize=6.5, color="#555555", x=0.01, ha="left")
    figure.savefig(path, dpi=_DPI)


def _bars(axes: Axes, plot: Plot) -> None:
    width = 0.8 / len(plot.series)
    for number, (name, values) in enumerate(plot.series.items()):
        offset = (number - (len(plot.series) - 1) / 2) * width
        at = [place + offset for place in range(len(plot.x))]
        bars = axes.bar(at, values, width * 0.94, label=name, color=COLOURS[number % len(COLOURS)])
        labels = ["" if math.isnan(v) else f"{v:.3g}" for v in values]
        axes.bar_label(bars, labels, fontsize=8, padding=2)
    axes.set_xticks(range(len(plot.x)), [str(name) for name in plot.x])
    if "y" in plot.log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)


def _lines(axes: Axes, plot: Plot) -> None:
    x = [float(value) for value in plot.x]
    for number, (name, values) in enumerate(plot.series.items()):
        # What was not measured is no gap in the line.
        known = [(at, value) for at, value in zip(x, values, strict=True) if not math.isnan(value)]
        if known:
            axes.plot(
                [at for at, _ in known],
                [value for _, value in known],
                label=name,
                linewidth=1.8,
                markersize=5,
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)],
            )
    if "x" in plot.log:
        axes.set_xscale("log", base=2)
        axes.set_xticks(x)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _at: f"{value:g}"))
    if "y" in plot.log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
