"""`qzoom bench`: what the method and the service cost on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import bench_all, bench_service
from cli.bench_output import finish, progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

app = typer.Typer(help="Measure what method and service cost on this machine.")

for command in (
    bench_service.pipe,
    bench_service.handoff,
    bench_service.load,
    bench_service.reuse,
    bench_service.scale,
    bench_service.overload,
    bench_service.memory,
):
    app.command()(command)
app.command("all")(bench_all.run_all)

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
    from benchmarks.stages import StagesLoad, run
    from qzoom.builtin import builtin_model

    load = StagesLoad(rounds=rounds, batch=batch, full_tokens=full_tokens, threads=threads)
    with progress() as say:
        report = run(model or builtin_model(), _picture(), QUESTION, load, say)
    finish(report, folder)


@app.command()
def method(rounds: Rounds = 15, threads: Threads = 1, folder: Out = None) -> None:
    """Compare direct and zoom with transformers' plain model in one process."""
    from benchmarks.method import MethodLoad, run

    with progress() as say:
        report = run(MethodLoad(rounds=rounds, threads=threads), say)
    finish(report, folder)


@app.command()
def decode(
    model: Model = None,
    rounds: Rounds = 5,
    steps: Annotated[int, typer.Option(min=1, max=4096, help="Tokens of each answer.")] = 16,
    largest: Annotated[int, typer.Option(min=1, max=1024, help="Largest batch.")] = 64,
    threads: Threads = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    folder: Out = None,
) -> None:
    """Tokens per second when 1, 2, 4 ... answers are written together."""
    from benchmarks.decode import DecodeLoad, run
    from qzoom.builtin import builtin_model

    load = DecodeLoad(
        batches=tuple(2**n for n in range(largest.bit_length())),
        steps=steps,
        rounds=rounds,
        threads=threads,
        device=device,
        dtype=dtype,
    )
    with progress() as say:
        report = run(model or builtin_model(), _picture(), QUESTION, load, say)
    finish(report, folder)


def _picture() -> "NDArray[np.uint8]":
    import numpy as np

    from qzoom.data.dataset import example

    return np.asarray(example("test", 0, 0)[1].convert("RGB"))
