"""`qzoom train rpn | gate | post-sft`: stages on a checkpoint folder and label folders."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.pretty import pprint
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cli.console import err, out
from cli.dtypes import DTypeName
from cli.training_options import (
    DEFAULT_RECIPE,
    CpusOption,
    DeviceOption,
    DTypeOption,
    ModelArg,
    RecipeOption,
    SetOption,
    ThreadsOption,
    WorkersOption,
    machine_of,
)

if TYPE_CHECKING:
    from training.labels.jobs import Machine
    from training.stages.loop import Progress as Step
    from training.stages.run import StageRun, Train

LabelsArg = Annotated[list[Path], typer.Argument(help="Label folders, then the run's folder.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]
DataOption = Annotated[
    str | None, typer.Option(help="Data set, if it is no longer where the labels say.")
]


def rpn(
    model: ModelArg,
    labels: LabelsArg,
    recipe: RecipeOption = DEFAULT_RECIPE,
    resume: ResumeOption = False,
    data: DataOption = None,
    continue_rpn: Annotated[
        bool, typer.Option(help="Start from the model's RPN, not from its layers (stage 2.5).")
    ] = False,
    changes: SetOption = None,
    device: DeviceOption = "cpu",
    dtype: DTypeOption = DTypeName.FLOAT32,
    threads: ThreadsOption = 1,
    num_workers: WorkersOption = 1,
    num_cpus: CpusOption = 1,
) -> None:
    """Train the region proposal network on labels of `qzoom label rpn`: MODEL LABELS... RUN."""
    from training.stages.run import train_rpn

    machine = machine_of(device, dtype, threads)
    run = _run(model, labels, recipe, changes, machine, resume=resume, data=data)
    _start(replace(run, continue_rpn=continue_rpn), train_rpn, num_workers, num_cpus)


def gate(
    model: ModelArg,
    labels: LabelsArg,
    recipe: RecipeOption = DEFAULT_RECIPE,
    resume: ResumeOption = False,
    data: DataOption = None,
    changes: SetOption = None,
    device: DeviceOption = "cpu",
    dtype: DTypeOption = DTypeName.FLOAT32,
    threads: ThreadsOption = 1,
    num_workers: WorkersOption = 1,
    num_cpus: CpusOption = 1,
) -> None:
    """Train the gate on labels of `qzoom label gate`: MODEL LABELS... RUN."""
    from training.stages.run import train_gate

    machine = machine_of(device, dtype, threads)
    run = _run(model, labels, recipe, changes, machine, resume=resume, data=data)
    _start(run, train_gate, num_workers, num_cpus)


def post_sft(
    model: ModelArg,
    labels: LabelsArg,
    recipe: RecipeOption = DEFAULT_RECIPE,
    resume: ResumeOption = False,
    data: DataOption = None,
    changes: SetOption = None,
    device: DeviceOption = "cpu",
    dtype: DTypeOption = DTypeName.FLOAT32,
    threads: ThreadsOption = 1,
    num_workers: WorkersOption = 1,
    num_cpus: CpusOption = 1,
) -> None:
    """Fine-tune the language model on hard samples, RoI in place: MODEL LABELS... RUN."""
    from training.stages.run import train_post_sft

    machine = machine_of(device, dtype, threads)
    run = _run(model, labels, recipe, changes, machine, resume=resume, data=data)
    _start(run, train_post_sft, num_workers, num_cpus)


def _run(
    model: Path,
    labels: list[Path],
    recipe: str,
    changes: list[str] | None,
    machine: "Machine",
    *,
    resume: bool,
    data: str | None,
) -> "StageRun":
    """Put together what the user asked for."""
    from training.stages.recipe import load_stage_recipe
    from training.stages.run import StageRun

    if len(labels) < 2:
        raise typer.BadParameter("give at least one label folder and the run's folder")
    *folders, run_folder = labels
    return StageRun(
        model=model,
        labels=folders,
        out=run_folder,
        recipe=load_stage_recipe(recipe, changes or ()),
        resume=resume,
        data=data,
        machine=machine,
    )


def _start(run: "StageRun", train: "Train", num_workers: int, num_cpus: int) -> None:
    pprint(run.recipe, console=err)
    if num_workers == 1:
        _show(run, train)
    else:
        from deploy.ray_training import Workers, train_with_ray

        num_gpus = int(run.machine.device.startswith("cuda"))
        train_with_ray(run, train, Workers(num_workers, num_cpus, num_gpus))
    out.print(f"{run.out / 'part'}; put together with: qzoom convert MODEL TARGET --with {run.out}")


def _show(run: "StageRun", train: "Train") -> None:
    columns = ("loss {task.fields[loss]:.4f}", "{task.fields[rate]:.1f}/s", "{task.fields[eta]}")
    with Progress(
        BarColumn(), MofNCompleteColumn(), *(TextColumn(c) for c in columns), console=err
    ) as bar:
        # Shown from the first step on: a refusal comes before any work, and alone.
        task = bar.add_task("", total=None, visible=False, loss=0.0, rate=0.0, eta="")

        def on_step(step: "Step") -> None:
            minutes, seconds = divmod(round(step.eta_s), 60)
            bar.update(
                task,
                visible=True,
                completed=step.step,
                total=step.steps,
                loss=step.loss,
                rate=step.samples,
                eta=f"{minutes}:{seconds:02} left",
            )

        train(run, on_step)
