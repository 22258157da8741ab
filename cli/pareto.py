"""`qzoom evaluate pareto`: accuracy against throughput, and the speed-up at matched accuracy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    if all(result.cpu_s is None for result in found.results):
        err.print(
            "this run has no CPU times, as through a gateway; no speed-up can be told from it"
        )
    for domain, kinds in panels.items():
        for kind in kinds:
            compared = speed_up(found, kind=kind, domain=domain, tolerance=tolerance)
            if kind != "base" and compared is not None:
                out.print(_text(compared), highlight=False)
    plot_pareto(panels, save)
    err.print(f"wrote {save}")


def _text(compared: "SpeedUp") -> str:
    ratio, spared, gain = compared.speed_up, compared.token_reduction, compared.gain
    lines = [
        f"[bold]{compared.kind}, {compared.domain}[/]",
        f"  base at its best     {_point(compared.base)}",
        "  base rises           " + ("with every step of the sweep" if compared.base_rises else
                                     "no: it is undertrained at length, quote no ratio from it"),
        f"  as accurate          {_point(compared.matched) if compared.matched else 'nowhere'}",
    ]  # fmt: skip
    if ratio is not None and spared is not None:
        lines += [
            f"  speed-up there       {ratio.value:.2f} x ({ratio.low:.2f} .. {ratio.high:.2f})",
            f"  visual tokens spared {100 * spared:.1f} %",
        ]
    lines += [
        f"  at its own best      {_point(compared.best)}",
        f"  gain there           {100 * gain.value:+.1f} points "
        f"({100 * gain.low:+.1f} .. {100 * gain.high:+.1f})",
    ]
    return "\n".join(lines)


def _point(point: "Point") -> str:
    budget = "its own budget" if point.budget is None else f"a budget of {point.budget}"
    return f"{point.accuracy.value:.3f} at {budget}"
