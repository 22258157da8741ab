"""Loss and learning rate of every step: curve.csv, and curve.png at the end."""

import csv
from pathlib import Path
from typing import IO

CURVE_FILE = "curve.csv"
_COLUMNS = ("step", "loss", "lr", "gradient_norm", "samples")


class Curve:
    """Appends one row a step; rows behind the point of resumption are dropped.

    Args:
        folder: Of the run.
        steps_done: Rows to keep.
    """

    def __init__(self, folder: Path, steps_done: int) -> None:
        self._path = folder / CURVE_FILE
        kept = read_curve(folder)[:steps_done] if self._path.is_file() else []
        self._file: IO[str] = self._path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._writer.writerow(_COLUMNS)
        self._writer.writerows(kept)
        self._file.flush()

    def add(self, step: int, loss: float, lr: float, norm: float, samples: int) -> None:
        """Write a row; it is on disk before the next step begins."""
        self._writer.writerow((step, repr(loss), repr(lr), repr(norm), samples))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_curve(folder: Path) -> list[list[str]]:
    """Rows of a curve without its header; a last line cut by a kill is dropped."""
    with (folder / CURVE_FILE).open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [row for row in rows if len(row) == len(_COLUMNS)]


def draw_curve(folder: Path, title: str) -> None:
    """Draw curve.png."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only here, and slow to import

    rows = read_curve(folder)
    steps = [int(row[0]) for row in rows]
    losses = [float(row[1]) for row in rows]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, losses, linewidth=0.6, alpha=0.4)
    width = max(1, len(rows) // 50)
    windows = [losses[max(0, i - width) : i + 1] for i in range(len(rows))]
    axes.plot(steps, [sum(window) / len(window) for window in windows], linewidth=1.5)
    axes.set(xlabel="step", ylabel="loss", title=title)
    rates = axes.twinx()
    rates.plot(steps, [float(row[2]) for row in rows], color="grey", linewidth=0.8, linestyle=":")
    rates.set_ylabel("learning rate")
    figure.savefig(folder / "curve.png", dpi=110)
