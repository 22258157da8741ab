"""`qzoom evaluate pareto`: accuracy against throughput, and the speed-up at matched accuracy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cli.console import Failure, err, out

if TYPE_CHECKING:
    from evaluation.pareto import Point, SpeedUp


def pareto(
    run: Annotated[Path, typer.Argument(help="run.json of `qzoom evaluate --budgets ... --save`.")],
    save: Annotated[Path, typer.Option(help="Picture to write.")] = Path("pareto.png"),
    tolerance: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Accuracy below the base's best that still matches."),
    ] = 0.0,
) -> None:
    """Draw the paper's Fig. 8 from a stored RUN and compare every curve with the base's."""
    from evaluation.pareto import curves, domains, speed_up
    from evaluation.plots import plot_pareto
    from evaluation.results import load_run

    found = load_run(run)
    panels = {domain: curves(found, domain) for domain in domains(found)}
    if "base" not in panels["all"]:
        raise Failure(f"{run} has no base; evaluate with --modes base,auto and several --budgets")
    table = Table(title=f"against the base's best point, tolerance {tolerance:g}")
    headings = ("", "base", "matched", "speed-up", "tokens spared", "best", "gain", "base rises")
    for heading in headings:
        table.add_column(heading, justify="left" if not heading else "right")
    for domain, kinds in panels.items():
        for kind in kinds:
            if kind == "base":
                continue
            compared = speed_up(found, kind=kind, domain=domain, tolerance=tolerance)
            if compared is not None:
                table.add_row(*_cells(compared))
    out.print(table)
    plot_pareto(panels, save)
    err.print(f"wrote {save}")


def _cells(compared: "SpeedUp") -> list[str]:
    from evaluation.tables import share

    ratio, gain = compared.speed_up, compared.gain
    return [
        f"{compared.kind}, {compared.domain}",
        _point(compared.base),
        "-" if compared.matched is None else _point(compared.matched),
        "-" if ratio is None else f"{ratio.value:.2f} x ({ratio.low:.2f}-{ratio.high:.2f})",
        share(compared.token_reduction),
        _point(compared.best),
        f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} .. {100 * gain.high:+.1f})",
        "yes" if compared.base_rises else "no",
    ]


def _point(point: "Point") -> str:
    budget = "own" if point.budget is None else point.budget
    return f"{point.accuracy.value:.3f} @{budget}"
