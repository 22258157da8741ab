"""`qzoom calibrate`: thresholds of a model from a validation split, and the curve behind them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import track
from rich.table import Table

from cli.console import Failure, err, out

if TYPE_CHECKING:
    from qzoom.contracts.calibration import Calibration


def calibrate(
    model: Annotated[Path, typer.Argument(help="Checkpoint folder in our own format.")],
    data: Annotated[
        str, typer.Option(help="Validation split: builtin:val[?seed=N], a path, or FORMAT:PATH.")
    ] = "builtin:val",
    questions: Annotated[int, typer.Option(min=10, max=100_000, help="How many.")] = 400,
    metric: Annotated[str, typer.Option(help="What counts as right.")] = "exact_match",
    tau_rois: Annotated[
        str | None, typer.Option(help="Thresholds of the map to try, as 0.1,0.3.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="Accuracy to give up for fewer tokens.")
    ] = 0.005,
    batch: Annotated[int, typer.Option(min=1, max=256, help="Requests that run together.")] = 8,
    threads: Annotated[int, typer.Option(min=1, max=256, help="CPU threads.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure only; write nothing.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the curve to this picture.")] = None,
) -> None:
    """Choose tau_gate and tau_roi of MODEL; store them with the accuracy-against-tau curve.

    Of all pairs of thresholds within --tolerance of the best accuracy, the one with the fewest
    visual tokens. The curve goes to calibration.json in the folder; how far tau_gate may rise under
    load for one and for five points of accuracy is printed.
    """
    import torch

    from evaluation.answerers.local import LocalAnswerer, open_pipeline
    from evaluation.calibrate import TAU_ROIS, Measured, measure, store
    from evaluation.calibrate import calibrate as choose
    from evaluation.dataset import open_dataset

    tried = TAU_ROIS if tau_rois is None else _numbers(tau_rois)
    torch.set_num_threads(threads)
    answerer = LocalAnswerer(open_pipeline(model), batch=batch)
    asked = open_dataset(data, questions=questions, metric_name=metric)
    measured = Measured([], {})
    total = len(asked.records) * (1 + len(tried))
    steps = measure(answerer, asked, tried, measured)
    for _ in track(steps, description="asking", total=total, console=err):
        pass
    found = choose(
        measured,
        data=asked.name,
        metric=metric,
        revision=answerer.pipeline.checkpoint.revision,
        tolerance=tolerance,
    )
    _show(found)
    if plot is not None:
        from evaluation.plots import plot_calibration

        plot_calibration(found, plot)
        err.print(f"wrote {plot}")
    if not dry_run:
        store(found, model)
        err.print(f"wrote the thresholds to {model / 'config.json'}, the curve beside it")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        raise Failure(f"--tau-rois is {text!r}, must be numbers like 0.1,0.3") from None
    if not all(0 < tau < 1 for tau in found):
        raise Failure(f"--tau-rois is {text!r}, each must lie between 0 and 1")
    return found


def _show(found: "Calibration") -> None:
    from qzoom.contracts.calibration import highest_tau_gate

    table = Table(title=f"{found.questions} questions of {found.data}, {found.metric}")
    for heading in ("tau_gate", "accuracy", "zoomed", "visual tokens"):
        table.add_column(heading, justify="right")
    shown = found.gate_curve[:: max(1, len(found.gate_curve) // 12)]
    for point in sorted({*shown, found.chosen, found.gate_curve[-1]}, key=lambda p: p.tau_gate):
        style = "bold" if point.tau_gate == found.tau_gate else None
        table.add_row(
            f"{point.tau_gate:.3g}",
            f"{point.accuracy:.3f} ({point.low:.2f}-{point.high:.2f})",
            f"{100 * point.zoom_share:.0f} %",
            f"{point.visual_tokens:.0f}",
            style=style,
        )
    out.print(table)
    out.print(
        f"chosen: tau_gate {found.tau_gate:.3g}, tau_roi {found.tau_roi:.3g}", highlight=False
    )
    for loss in (0.01, 0.05):
        highest = highest_tau_gate(found.accuracy_by_tau, found.tau_gate, loss)
        out.print(f"tau_gate up to {highest:.3g} costs at most {100 * loss:.0f} points of accuracy")
