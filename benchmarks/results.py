"""Where does a report go? Into a JSON file for comparisons, and a picture to look at."""

import json
from pathlib import Path

from benchmarks.plots import draw
from benchmarks.report import Report


def write_report(report: Report, folder: Path, command: str) -> tuple[Path, Path]:
    """Write `<bench>.json` and `<bench>.png`.

    Args:
        report: Of one run.
        folder: Made if needed; results of the same benchmark are replaced.
        command: What was typed, so that others can repeat it.

    Returns:
        The two files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, picture = folder / f"{report.bench}.json", folder / f"{report.bench}.png"
    text = json.dumps(report.to_dict(command), indent=1, allow_nan=False)
    data.write_text(text + "\n", encoding="utf-8")
    draw(report.plot, caption(report, command), picture)
    return data, picture


def caption(report: Report, command: str) -> str:
    """Say under which circumstances a result arose, in one or two lines."""
    machine = report.machine
    packages = ", ".join(f"{k} {v}" for k, v in machine["packages"].items() if k != "numpy")
    return (
        f"{command}\n{machine['processor']}, {machine['cores']} cores, load average "
        f"{machine['load_average']:g}; {packages}"
    )
