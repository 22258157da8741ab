"""`qzoom evaluate pareto`: accuracy against throughput, and the speed-up at matched accuracy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import Failure, err, out

if TYPE_CHECKING:
    from evaluation.pareto import Point, SpeedUp
    from evaluation.results import Run


def pareto(
    run: Annotated[Path, typer.Argument(help="run.json of `qzoom evaluate --budgets ... --save`.")],
    save: Annotated[Path, typer.Option(help="Picture to write.")] = Path("pareto.png"),
    tolerance: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Accuracy below the base's best that still matches."),
    ] = 0.0,
) -> None:
    """Draw the paper's Fig. 8 from a stored RUN and compare every curve with the base's."""
    from evaluation.results import load_run

    found = load_run(run)
    if all(result.kind != "base" for result in found.results):
        raise Failure(f"{run} has no base; evaluate with --modes base,auto and several --budgets")
    if all(result.cpu_s is None for result in found.results):
        err.print(
            "this run has no CPU times, as through a gateway; no speed-up can be told from it"
        )
    out.print(draw(found, save, tolerance), highlight=False)
    err.print(f"wrote {save}")


def is_sweep(run: "Run") -> bool:
    """Whether there is a curve of the base, and another one, over several budgets."""
    budgets: dict[str, set[int | None]] = {}
    for result in run.results:
        budgets.setdefault(result.kind, set()).add(result.budget)
    rivals = [found for kind, found in budgets.items() if kind != "base"]
    return len(budgets.get("base", ())) > 1 and any(len(found) > 1 for found in rivals)


def draw(found: "Run", save: Path, tolerance: float = 0.0) -> str:
    """Draw a run that has a base; what the curves say, as text."""
    from evaluation.pareto import curves, domains, speed_up
    from evaluation.plots import plot_pareto

    panels = {domain: curves(found, domain) for domain in domains(found)}
    texts = []
    for domain, kinds in panels.items():
        for kind in kinds:
            compared = speed_up(found, kind=kind, domain=domain, tolerance=tolerance)
            if kind != "base" and compared is not None:
                texts.append(_text(compared))
    plot_pareto(panels, save)
    return "\n".join(texts)


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
