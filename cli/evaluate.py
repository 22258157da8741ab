"""`qzoom evaluate`: accuracy and cost of a model on pictures that it has never seen."""

import json
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import track
from rich.table import Table

from cli.console import err, out

if TYPE_CHECKING:
    from evaluation.report import Summary
    from qzoom.metrics.intervals import Mean


def evaluate(
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint folder; the built-in model if not given.")
    ] = None,
    questions: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 600,
    seed: Annotated[int, typer.Option(min=0, max=1 << 19, help="Seed of the test pictures.")] = 0,
    full_tokens: Annotated[
        int, typer.Option(min=1, max=16_384, help="Visual tokens of the full-resolution rows.")
    ] = 324,
    batch: Annotated[int, typer.Option(min=1, max=256, help="Requests that run together.")] = 8,
    threads: Annotated[int, typer.Option(min=1, max=256, help="CPU threads.")] = 1,
    save: Annotated[Path | None, typer.Option(help="Write every record to this JSON file.")] = None,
) -> None:
    """Ask test questions on every route; print accuracy with 95 % intervals, tokens and cost.

    The pictures come from the generator's test seeds, which training never draws from. CPU time
    is that of the whole request, the picture's preprocessing included.
    """
    import torch

    from evaluation.modes import default_modes
    from evaluation.report import summarize, to_json
    from evaluation.run import Record, sample_items
    from evaluation.run import evaluate as run
    from qzoom.builtin import builtin_model
    from qzoom.model.pipeline import Pipeline

    torch.set_num_threads(threads)
    pipeline = Pipeline.open(model or builtin_model())
    items = list(sample_items("test", seed, questions))
    records: list[Record] = []
    summaries: list[Summary] = []
    for mode in default_modes(full_tokens):
        found = list(
            track(
                run(pipeline, items, mode, batch=batch),
                description=f"{mode.name:15}",
                total=len(items),
                console=err,
            )
        )
        records += found
        summaries.append(summarize(found))
    out.print(_table(summaries, f"{questions} questions, test seed {seed}, batch {batch}"))
    if save is not None:
        about: dict[str, Any] = {
            "command": " ".join(["qzoom", *sys.argv[1:]]),
            "machine": f"{platform.machine()}, {threads} threads, torch {torch.__version__}",
            "full_tokens": full_tokens,
        }
        save.write_text(json.dumps(to_json(summaries, records, about), indent=1))
        err.print(f"records written to {save}")


def _table(summaries: "list[Summary]", title: str) -> Table:
    table = Table(title=title)
    table.add_column("")
    for s in summaries:
        table.add_column(s.mode, justify="right")
    table.add_row("right, all", *(_interval(s.all) for s in summaries))
    for group in sorted({group for s in summaries for group in s.groups}):
        table.add_row(f"right, {group}", *(_interval(s.groups.get(group)) for s in summaries))
    table.add_section()
    table.add_row("detail sent to zoom", *(_percent(s.zoom_on_detail) for s in summaries))
    table.add_row("rest kept direct", *(_percent(s.direct_on_coarse) for s in summaries))
    table.add_row("evidence in box", *(_percent(s.evidence_in_box) for s in summaries))
    table.add_row("box area", *(_percent(s.box_area) for s in summaries))
    table.add_section()
    table.add_row("visual tokens", *(f"{s.visual_tokens:.0f}" for s in summaries))
    table.add_row("CPU ms a request", *(f"{s.cpu_ms:.1f}" for s in summaries))
    return table


def _interval(mean: "Mean | None") -> str:
    return "-" if mean is None else f"{mean.value:.3f} ({mean.low:.2f}-{mean.high:.2f})"


def _percent(mean: "Mean | None") -> str:
    return "-" if mean is None else f"{100 * mean.value:.1f} %"
