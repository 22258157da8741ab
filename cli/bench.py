"""`qzoom bench`: what the method and the service cost on this machine."""

import asyncio
import io
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import track
from rich.table import Table

from cli.console import Failure, err, out

if TYPE_CHECKING:
    from benchmarks.load import Sample

app = typer.Typer(help="Measure what stages and service cost on this machine.")

QUESTION = "What is the code on the icon in the top left?"


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """Run `stages` where no benchmark is named."""
    if context.invoked_subcommand is None:
        stages()


@app.command()
def stages(
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint folder; the built-in model if not given.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=2, max=10_000, help="Measurements a case.")] = 15,
    batch: Annotated[int, typer.Option(min=1, max=256, help="Requests that run together.")] = 1,
    full_tokens: Annotated[int, typer.Option(min=1, max=16_384, help="Full resolution.")] = 324,
    threads: Annotated[int, typer.Option(min=1, max=256, help="CPU threads.")] = 1,
) -> None:
    """Time every stage in one process: direct, zoom, and direct at full resolution."""
    import numpy as np
    import torch

    from benchmarks.stages import measure, spread
    from qzoom.builtin import builtin_model
    from qzoom.contracts.options import Options
    from qzoom.data.dataset import example
    from qzoom.model.pipeline import Pipeline

    torch.set_num_threads(threads)
    pipeline = Pipeline.open(model or builtin_model())
    picture = np.asarray(example("test", 0, 0)[1].convert("RGB"))
    cases = {
        "direct": Options(route="direct"),
        "zoom": Options(route="zoom", tau_roi=0.02),
        "full resolution": Options(route="direct", max_visual_tokens=full_tokens),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    runs = measure(pipeline, picture, QUESTION, cases, batch=batch, max_tokens=6, rounds=rounds)
    for name, stage_s in track(runs, "measuring", total=rounds * len(cases), console=err):
        found[name].append(stage_s)

    machine = f"{platform.machine()}, {threads} threads, torch {torch.__version__}"
    table = Table(title=f"ms a batch of {batch}: median (quartiles) of {rounds}; {machine}")
    table.add_column("stage")
    for name in cases:
        table.add_column(name, justify="right")
    for stage in found["zoom"][0]:
        times = [spread([s[stage] for s in found[name]]) for name in cases]
        cells = [f"{t.median_ms:.1f} ({t.low_ms:.1f}-{t.high_ms:.1f})" for t in times]
        table.add_row(stage, *cells)
    table.add_section()
    totals = [spread([sum(s.values()) for s in found[name]]) for name in cases]
    table.add_row("all", *(f"{t.median_ms:.1f} ({t.low_ms:.1f}-{t.high_ms:.1f})" for t in totals))
    out.print(table)


@app.command()
def load(
    url: Annotated[str, typer.Option(help="Server to ask, any OpenAI-compatible one.")],
    model: Annotated[str, typer.Option(help="Model's name there.")] = "builtin",
    clients: Annotated[int, typer.Option(min=1, max=1024, help="Requests in flight.")] = 4,
    requests: Annotated[int, typer.Option(min=2, max=1_000_000, help="How many in all.")] = 100,
) -> None:
    """Ask a running server questions about fresh pictures, some clients at a time."""
    from benchmarks.load import chat_body, run_load
    from qzoom.data.dataset import example

    bodies = []
    for index in range(16):
        _, image, questions = example("test", 1, index)
        file = io.BytesIO()
        image.save(file, "PNG")
        bodies += [chat_body(file.getvalue(), q.text, model=model) for q in questions]
    with err.status(f"{requests} requests, {clients} at a time"):
        samples, seconds = asyncio.run(run_load(url, bodies, clients=clients, requests=requests))
    good = [s for s in samples if s.error is None]
    errors = sorted({s.error for s in samples if s.error is not None})
    if len(good) < 2:
        raise Failure(
            f"{len(samples) - len(good)} of {len(samples)} failed: {', '.join(errors)}", 1
        )
    out.print(_load_table(good, len(samples), seconds, clients))
    if errors:
        raise Failure(f"{len(samples) - len(good)} requests failed: {', '.join(errors)}", 1)


def _load_table(good: "list[Sample]", num_all: int, seconds: float, clients: int) -> Table:
    import numpy as np

    table = Table(title=f"{num_all} requests, {clients} at a time")
    for name in ("", "p50", "p95", "p99"):
        table.add_column(name, justify="right")
    figures = {
        "TTFT, ms": [1e3 * s.ttft_s for s in good if s.ttft_s is not None],
        "whole answer, ms": [1e3 * s.total_s for s in good],
    }
    for name, values in figures.items():
        table.add_row(name, *(f"{np.quantile(values, q):.0f}" for q in (0.5, 0.95, 0.99)))
    table.add_section()
    table.add_row("requests/s", f"{len(good) / seconds:.1f}", "", "")
    return table
