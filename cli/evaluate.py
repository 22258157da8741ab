"""`qzoom evaluate`: accuracy and cost of a model on questions that it has never seen."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import track
from rich.text import Text

from cli import ablation, pareto
from cli.console import Failure, err, out
from qzoom.errors import InvalidRequest

if TYPE_CHECKING:
    from evaluation.answerers import Answerer
    from evaluation.dataset import DataSet
    from evaluation.modes import Mode
    from evaluation.results import Result, Run
    from evaluation.summary import Summary
    from evaluation.tasks.task import Task

app = typer.Typer(
    invoke_without_command=True,
    help="Ask questions whose answers are known: accuracy by group with 95 % intervals, routes, "
    "boxes, tokens and cost.",
)
app.command("pareto")(pareto.pareto)
app.command("ablation")(ablation.ablation)


BUILTIN_QUESTIONS = 600


@app.callback()
def evaluate(
    ctx: typer.Context,
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint folder; the built-in model if not given.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Ask the gateway at this address instead, over HTTP.")
    ] = None,
    data: Annotated[
        str,
        typer.Option(help="builtin:SPLIT[?seed=N], a file or folder, or FORMAT:PATH."),
    ] = "builtin:test",
    task: Annotated[
        str | None, typer.Option(help="A benchmark as NAME:FOLDER; `--task list` names them.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of a Hugging Face folder.")] = "",
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures; the data set's if not given.")
    ] = None,
    metric: Annotated[str, typer.Option(help="What counts as right.")] = "exact_match",
    questions: Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, help="How many; all, of the built-in pictures 600."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=1 << 19, help="Of the built-in pictures.")] = 0,
    modes: Annotated[
        str, typer.Option(help="Of base, auto, zoom, oracle; separated by commas.")
    ] = "base,auto,zoom",
    budgets: Annotated[
        str | None,
        typer.Option(help="Visual tokens, as 36,72,144; else the coarse and the full budget."),
    ] = None,
    full_tokens: Annotated[
        int, typer.Option(min=1, max=16_384, help="The full budget where --budgets is not given.")
    ] = 324,
    rivals: Annotated[
        str, typer.Option(help="Of attention, vicrop, scales, tiling, dino1, dino2; one by one.")
    ] = "",
    detector: Annotated[
        Path | None, typer.Option(help="Folder of GroundingDINO's weights, for dino1 and dino2.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="paper or released.")] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published-thresholds", help="The task's, for released checkpoints; else the model's."
        ),
    ] = False,
    batch: Annotated[int, typer.Option(min=1, max=256, help="Requests that run together.")] = 8,
    threads: Annotated[int, typer.Option(min=1, max=256, help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option(help="Where the model runs.")] = "cpu",
    concurrency: Annotated[
        int, typer.Option(min=1, max=1024, help="Requests in flight at a gateway.")
    ] = 4,
    save: Annotated[
        Path | None,
        typer.Option(help="Folder (or .json file) for run.json, table.md and plots."),
    ] = None,
) -> None:
    """Ask every question in every mode; print accuracy with 95 % intervals, tokens and cost.

    The built-in pictures come from the generator's test seeds, which training never draws from.
    CPU time is that of the whole request, the picture's preprocessing included, in one process.
    """
    if ctx.invoked_subcommand is not None:
        return
    if url is not None and model is not None:
        raise Failure("--url and --model exclude each other: a server has its own model")
    from evaluation.answerers.remote import GatewayAnswerer
    from evaluation.results import Run
    from evaluation.run import evaluate_all
    from evaluation.summary import summarize
    from evaluation.tasks.registry import TASKS

    if task == "list":
        for name, known in TASKS.items():
            out.print(f"{name:20}{known.title}", highlight=False)
        return

    if data.partition("?")[0] == "builtin:test" and "seed=" not in data:
        data = f"{data}{'&' if '?' in data else '?'}seed={seed}"
    chosen, asked = _open(task, data, questions, metric, split, images)
    planned = _modes(modes, budgets, full_tokens, url is not None or asked.limits is not None)
    with ExitStack() as held:
        answerer: Answerer
        if url is not None:
            answerer = held.enter_context(closing(GatewayAnswerer(url, concurrency=concurrency)))
        else:
            answerer = _local(model, preset, asked.limits, device, batch, threads)
        if published:
            planned = _at_published(planned, chosen, answerer)
        results: list[Result] = [
            result
            for _, result in track(
                evaluate_all(answerer, asked, planned),
                description="asking",
                total=len(planned) * len(asked.records),
                console=err,
            )
        ]
        if rivals:
            results += _rivals(rivals, detector, answerer, asked, planned)
        about = {**answerer.about(), **_about(asked)}
    run = Run(about, results)
    summaries = [summarize(part) for part in run.modes().values()]
    _show(run, summaries, asked)
    if save is not None:
        _save(run, summaries, save)


def _open(
    task: str | None, data: str, questions: int | None, metric: str, split: str, images: Path | None
) -> "tuple[Task | None, DataSet]":
    from evaluation.dataset import open_dataset
    from evaluation.tasks.registry import open_task

    if task is not None:
        return open_task(task, questions)
    if questions is None and data.startswith("builtin:"):
        questions = BUILTIN_QUESTIONS
    opened = open_dataset(
        data, questions=questions, metric_name=metric, split=split, image_root=images
    )
    return None, opened


def _at_published(planned: "list[Mode]", task: "Task | None", answerer: "Answerer") -> "list[Mode]":
    family = answerer.about().get("family")
    known = {} if task is None else {str(k): v for k, v in task.thresholds.items()}
    if family not in known:
        which = "no task is given" if task is None else f"none are known for {task.name} and it"
        raise Failure(f"--published-thresholds: {which} (model family: {family or 'unknown'})")
    found = known[family]
    return [
        replace(mode, tau_gate=found.tau_gate, tau_roi=found.tau_roi)
        if mode.kind != "base"
        else mode
        for mode in planned
    ]


def _modes(kinds: str, budgets: str | None, full_tokens: int, own_limits: bool) -> "list[Mode]":
    from evaluation.modes import sweep

    wanted: list[int | None]
    if budgets is not None:
        try:
            wanted = [int(text) for text in budgets.split(",")]
        except ValueError:
            raise Failure(f"--budgets is {budgets!r}, must be numbers like 36,72,144") from None
    else:
        wanted = [None] if own_limits else [None, full_tokens]
    found = sweep([kind.strip() for kind in kinds.split(",")], wanted)
    # Without a sweep, the larger budget is the base's alone: what full resolution costs.
    return found if budgets is not None else [m for m in found if m.budget is None
                                               or m.kind == "base"]  # fmt: skip


def _local(
    model: Path | None, preset: str | None, limits: tuple[int, int] | None, device: str,
    batch: int, threads: int,
) -> "Answerer":  # fmt: skip
    import torch

    from evaluation.answerers.local import LocalAnswerer, open_pipeline
    from qzoom.builtin import builtin_model

    if preset not in {None, "paper", "released"}:
        raise Failure(f"--preset is {preset!r}, must be paper or released")
    torch.set_num_threads(threads)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    chosen: Any = preset
    pipeline = open_pipeline(
        model or builtin_model(), preset=chosen, limits=limits, device=device, dtype=dtype
    )
    return LocalAnswerer(pipeline, batch=batch, device=device)


def _rivals(
    names: str, detector: Path | None, answerer: "Answerer", asked: "DataSet", planned: "list[Mode]"
) -> "list[Result]":
    from evaluation.answerers.local import LocalAnswerer
    from evaluation.baselines.registry import open_rival
    from evaluation.baselines.rival import RivalAnswerer
    from evaluation.run import evaluate_rival

    if not isinstance(answerer, LocalAnswerer):
        raise Failure("--rivals look into the model, which a gateway does not show; use --model")
    budgets = list(dict.fromkeys(mode.budget for mode in planned if mode.kind != "base"))
    found: list[Result] = []
    for name in (part.strip() for part in names.split(",")):
        rival = open_rival(name, answerer.pipeline, detector=detector)
        for budget in budgets or [None]:
            results = evaluate_rival(RivalAnswerer(rival, {}), asked, name, budget)
            total = len(asked.records)
            found += track(results, description=f"{rival.name}", total=total, console=err)
    return found


def _about(asked: "DataSet") -> dict[str, Any]:
    return {
        "command": " ".join(["qzoom", *sys.argv[1:]]),
        "data": asked.name,
        "questions": len(asked.records),
        "metric": asked.metric,
        "skipped": asked.skipped.count,
        "skipped_first": asked.skipped.first,
    }


def _show(run: "Run", summaries: "Sequence[Summary]", asked: "DataSet") -> None:
    from evaluation.tables import terminal_table

    title = f"{len(asked.records)} questions of {asked.name}, {asked.metric}"
    out.print(terminal_table(summaries, title))
    if asked.figures is not None:
        for mode, results in run.modes().items():
            own = ", ".join(f"{name} {value:.3f}" for name, value in asked.figures(results).items())
            out.print(f"{mode}: {own}", highlight=False)
    if asked.skipped.count:
        err.print(str(asked.skipped), markup=False)
    errors = [r.error for r in run.results if r.error]
    if errors:
        err.print(f"{len(errors)} answers failed; the first: {errors[0]}", markup=False)


def _save(run: "Run", summaries: "Sequence[Summary]", save: Path) -> None:
    from evaluation.ablation.report import origin
    from evaluation.plots import plot_bars
    from evaluation.tables import markdown_table

    if save.suffix == ".json":
        run.save(save, summaries)
        err.print(f"wrote {save}")
        return
    try:
        save.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"{save} cannot be made: {error.strerror}") from None
    run.save(save / "run.json", summaries)
    (save / "table.md").write_text(markdown_table(summaries))
    plot_bars(summaries, save / "bars.png")
    err.print(f"wrote run.json, table.md and bars.png to {save}")
    if pareto.is_sweep(run):
        found = pareto.draw(run, save / "pareto.png")
        out.print(found, highlight=False)
        plain = Text.from_markup(found).plain
        (save / "pareto.md").write_text(f"```\n{plain}\n```\n\n{origin(run.about)}\n")
        err.print(f"wrote pareto.png and pareto.md to {save}")
