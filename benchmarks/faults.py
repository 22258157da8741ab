"""What did the chaos tests count? A table to read: `python -m benchmarks.faults LINES REPORT.md`.

The tests of tests/chaos add a line of JSON each to the file that QZOOM_CHAOS_FIGURES names.
"""

import json
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine

COUNTS = ("asked", "answered", "degraded", "refused", "cancelled", "lost", "wrong")
_KNOWN = {*COUNTS, "test", "p50_s", "p99_s"}


def report(lines: Iterable[Mapping[str, Any]], machine: Mapping[str, Any]) -> str:
    """Write the report.

    Args:
        lines: What each test counted.
        machine: As `describe_machine` tells.

    Returns:
        Markdown.
    """
    rows = [_row(line) for line in lines]
    head = ["what happened", *COUNTS, "p50 s", "p99 s"]
    table = [head, ["---"] * len(head), *rows]
    return "\n".join(
        [
            "# Faults and load",
            "",
            "What became of every request of `pytest tests/chaos`: asked = answered + refused with",
            "a reason + cancelled. Every answer was compared with the pipeline in one process for",
            "the route, tau and budgets that it names; `wrong` counts those that differ, `lost`",
            "those of which nothing came back.",
            "",
            *("| " + " | ".join(cells) + " |" for cells in table),
            "",
            f"{machine['processor']}, {machine['cores']} cores, load average "
            f"{machine['load_average']:g} when this was written; "
            f"{time.strftime('%Y-%m-%d')}. Times of a machine that does other work mean little.",
            "",
        ]
    )


def _row(line: Mapping[str, Any]) -> list[str]:
    more = [f"{name}: {_show(value)}" for name, value in line.items() if name not in _KNOWN]
    name = str(line["test"]).removeprefix("test_").replace("_", " ")
    name = name.replace("[", " (").replace("]", ")")
    told = f"{name}; {', '.join(more)}" if more else name
    counts = [_show(line.get(count, 0)) for count in COUNTS]
    return [told, *counts, _show(line.get("p50_s", "")), _show(line.get("p99_s", ""))]


def _show(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_show(one)}" for name, one in value.items()) or "0"
    return str(value)


def main(source: str, target: str) -> None:
    """Read what the tests counted and write the report."""
    lines = [json.loads(line) for line in Path(source).read_text(encoding="utf-8").splitlines()]
    Path(target).write_text(report(lines, describe_machine()), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
