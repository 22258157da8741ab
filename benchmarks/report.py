"""What does a benchmark leave behind? A table to read, figures to compare, a plot to show.

docs/benchmarks/README.md says what a result file must contain; `Report` cannot be made without it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.machine import describe_machine

FORMAT = 1
"""Of the JSON file; readers refuse others."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A table.

    Attributes:
        title: What it shows, with the unit.
        columns: Headings; the first names the rows.
        rows: Cells, ready to print.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture of a result.

    Attributes:
        kind: `bars` compares names, `lines` shows a dependence.
        title: What it shows.
        x_label: Of the horizontal axis.
        y_label: Of the vertical axis, with the unit.
        x: Names (bars) or values (lines).
        series: Values by the name of their series, as many as `x`; NaN leaves a gap.
        log: Axes that are logarithmic: "", "x", "y" or "xy".
    """

    kind: Literal["bars", "lines"]
    title: str
    x_label: str
    y_label: str
    x: tuple[str, ...] | tuple[float, ...]
    series: dict[str, tuple[float, ...]]
    log: Literal["", "x", "y", "xy"] = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that was asked for.

    Attributes:
        what: Name of the figure.
        value: As measured.
        limit: As asked for.
        at_least: Whether more is better.
    """

    what: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the figure is reached."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run of one benchmark.

    Attributes:
        bench: Its name.
        load: What was run: sizes, rates, rounds, threads.
        tables: To read.
        figures: What was measured, plain JSON types.
        plot: To look at.
        targets: Figures that were asked for, with what was reached.
        notes: What a reader must know: what was skipped, and why.
    """

    bench: str
    load: dict[str, Any]
    tables: Sequence[Rows]
    figures: dict[str, Any]
    plot: Plot
    targets: Sequence[Target] = ()
    notes: Sequence[str] = ()
    machine: dict[str, Any] = field(default_factory=describe_machine)
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S %z"))

    def to_dict(self, command: str) -> dict[str, Any]:
        """Return what the JSON file holds."""
        return {
            "format": FORMAT,
            "bench": self.bench,
            "command": command,
            "date": self.date,
            "machine": self.machine,
            "load": self.load,
            "figures": self.figures,
            "targets": [
                {
                    "what": t.what,
                    "value": t.value,
                    "limit": t.limit,
                    "at_least": t.at_least,
                    "is_met": t.is_met,
                }
                for t in self.targets
            ],
            "notes": list(self.notes),
        }
