"""`qzoom verify`: does this code compute what the published code computes?"""

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli.console import Failure, err, out

if TYPE_CHECKING:
    from qzoom.model.verify import CaseReport, Check

_COLUMNS = ("gate", "roi logits", "smoothed", "box", "positions", "logits", "ids")


class PresetName(StrEnum):
    """Variants of the method."""

    PAPER = "paper"
    RELEASED = "released"


def verify(
    folder: Annotated[Path, typer.Argument(help="Folder, or tree of folders, with NAME.json.")],
    preset: Annotated[
        PresetName | None,
        typer.Option(help="Variant of the method; the checkpoints' own if not given."),
    ] = None,
) -> None:
    """Check reference vectors: one line per case with the largest deviations.

    Exits with 1 if a deviation exceeds its tolerance, else with 2 if a case cannot be checked.
    """
    from qzoom.errors import QZoomError
    from qzoom.model.verify import (
        VectorError,
        find_cases,
        read_case,
        verify_case,
    )

    try:
        cases = find_cases(folder)
    except VectorError as error:
        raise Failure(str(error)) from error
    excesses, broken = 0, 0
    for path in cases:
        try:
            report = verify_case(read_case(path), preset.value if preset else None)
        except (ValueError, QZoomError) as error:  # also of vectors, checkpoints and stages
            broken += 1
            err.print(f"[bold red]error[/]  {path.stem}: {escape(str(error))}", soft_wrap=True)
            continue
        excesses += not report.is_good
        out.print(_line(report), soft_wrap=True, highlight=False)
    out.print(f"{len(cases)} cases, {excesses} with excess deviations, {broken} not checked")
    if excesses:
        raise typer.Exit(1)
    if broken:
        raise typer.Exit(2)


def _line(report: "CaseReport") -> str:
    checks = {check.name: check for check in report.worst()}
    shown = [f"{name} {_deviation(checks.get(name))}" for name in _COLUMNS]
    rest = [c for name, c in checks.items() if name not in _COLUMNS and not c.is_good]
    shown += [f"{check.name} {_deviation(check)}" for check in rest]
    verdict = "[green]ok  [/]" if report.is_good else "[bold red]FAIL[/]"
    return f"{verdict}  {report.name}  ({report.path})  " + "  ".join(shown)


def _deviation(check: "Check | None") -> str:
    if check is None:
        return "-"
    if math.isinf(check.deviation):
        return "[bold red]not comparable[/]"
    if check.tolerance == 0:
        return "equal" if check.is_good else f"[bold red]{check.deviation:.0f} differ[/]"
    text = f"{check.deviation:.1e}"
    return text if check.is_good else f"[bold red]{text} > {check.tolerance:.1e}[/]"
