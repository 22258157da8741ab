"""What did a folder of results show? One page: what was asked for, what was measured, and how.

Run as `python -m benchmarks.summary FOLDER`, which reads the JSON files that benches wrote there
and writes README.md beside them. What stands in it below the mark is kept: that is for people, who
say why a figure was missed.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import FORMAT

MARK = "<!-- written by hand from here on -->"


def main() -> None:
    """Write the page of the folder that the command line names."""
    folder = Path(sys.argv[1])
    page = folder / "README.md"
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    by_hand = before.partition(MARK)[2]
    page.write_text(summary(read_results(folder)) + f"\n{MARK}{by_hand or chr(10)}", "utf-8")


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Read the results of a folder, in the order in which they were taken.

    Raises:
        ValueError: If a file has another format.
    """
    found = []
    for file in sorted(folder.glob("*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        if result.get("format") != FORMAT:
            raise ValueError(f"{file.name} has format {result.get('format')}, not {FORMAT}")
        found.append(result)
    return sorted(found, key=lambda result: str(result["date"]))


def summary(results: Sequence[dict[str, Any]]) -> str:
    """Write the page."""
    lines = ["# Results", ""]
    lines += [f"{where}." for where in dict.fromkeys(map(_machine, results))]
    lines += ["", "| bench | asked for | measured | | load average |", "|---|---|---|---|---|"]
    lines += [row for result in results for row in _rows(result)]
    lines += ["", "## Commands, and what the benches say of themselves", ""]
    for result in results:
        name = result["bench"]
        lines += [f"**[{name}]({name}.json)** ([plot]({name}.png)), {result['date']}:", ""]
        lines += [f"    {result['command']}", ""]
        lines += [f"- {note}" for note in result["notes"]]
        lines += [""] if result["notes"] else []
    return "\n".join(lines).rstrip() + "\n"


def _machine(result: dict[str, Any]) -> str:
    machine = result["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; "
        f"{machine['system']}, Python {machine['python']}, {packages}"
    )


def _rows(result: dict[str, Any]) -> list[str]:
    load = f"{result['machine']['load_average']:g}"
    if not result["targets"]:
        return [f"| {result['bench']} | nothing | | | {load} |"]
    return [
        f"| {result['bench']} | {one['what']} {'>=' if one['at_least'] else '<='} {one['limit']:g} "
        f"| {one['value']:.4g} | {'met' if one['is_met'] else '**missed**'} | {load} |"
        for one in result["targets"]
    ]


if __name__ == "__main__":
    main()
