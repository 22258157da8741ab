"""`qzoom bench`: what the method and the service cost on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from cli.bench_output import finish
from cli.console import err

app = typer.Typer(help="Measure what method and service cost on this machine.")

QUESTION = "What is the code on the icon in the top left?"

Out = Annotated[Path | None, typer.Option("--out", help="Folder for JSON and plot.")]
Rounds = Annotated[int, typer.Option(min=2, max=10_000, help="Measurements a case.")]
Threads = Annotated[int, typer.Option(min=1, max=256, help="CPU threads.")]
Model = Annotated[
    Path | None, typer.Option(help="Checkpoint folder; the built-in model if not given.")
]


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """Run `stages` where no benchmark is named."""
    if context.invoked_subcommand is None:
        stages()


@app.command()
def stages(
    model: Model = None,
    rounds: Rounds = 15,
    batch: Annotated[int, typer.Option(min=1, max=256, help="Requests that run together.")] = 1,
    full_tokens: Annotated[int, typer.Option(min=1, max=16_384, help="Full resolution.")] = 324,
    threads: Threads = 1,
    folder: Out = None,
) -> None:
    """Time and FLOPs of every stage in one process: direct, zoom, and full resolution."""
    import numpy as np

    from benchmarks.stages import StagesLoad, run
    from qzoom.builtin import builtin_model
    from qzoom.data.dataset import example

    picture = np.asarray(example("test", 0, 0)[1].convert("RGB"))
    load = StagesLoad(rounds=rounds, batch=batch, full_tokens=full_tokens, threads=threads)
    with err.status("measuring") as status:
        report = run(model or builtin_model(), picture, QUESTION, load, status.update)
    finish(report, folder)


@app.command()
def method(rounds: Rounds = 15, threads: Threads = 1, folder: Out = None) -> None:
    """Compare direct and zoom with transformers' plain model in one process."""
    from benchmarks.method import MethodLoad, run

    with err.status("measuring") as status:
        report = run(MethodLoad(rounds=rounds, threads=threads), status.update)
    finish(report, folder)
