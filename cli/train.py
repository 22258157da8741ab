"""`qzoom train`: the stages of a model, each resumable."""

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.pretty import pprint

from cli import label, stages
from cli.calibrate import calibrate
from cli.console import Failure
from cli.convert import convert

if TYPE_CHECKING:
    from training.recipe import Recipe

app = typer.Typer(help="Train a model, stage by stage.", no_args_is_help=True)
app.command()(stages.rpn)
app.command()(stages.gate)
app.command(name="post-sft")(stages.post_sft)
_console = Console()

CALIBRATION_QUESTIONS = 600
CALIBRATION_TOLERANCE = 0.03
"""Accuracy that the thresholds may give up: a question that gains little stays direct."""

RecipeOption = Annotated[str, typer.Option(help="Name of a recipe, or path of a YAML file.")]
OutOption = Annotated[Path | None, typer.Option(help="Run folder; runs/<recipe> if not given.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]
MinutesOption = Annotated[float | None, typer.Option(help="Replaces the recipe's max_minutes.")]


def _open(name: str, out: Path | None) -> tuple["Recipe", Path]:
    from training.recipe import load_recipe

    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(show_path=False)]
    )
    try:
        recipe = load_recipe(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return recipe, out or Path("runs") / recipe.name


@app.command()
def base(
    recipe: RecipeOption = "built-in",
    out: OutOption = None,
    resume: ResumeOption = False,
    max_minutes: MinutesOption = None,
) -> None:
    """Train the base model from nothing."""
    from training.base import BaseTrainer

    plan, folder = _open(recipe, out)
    if max_minutes is not None:
        changed = dataclasses.replace(plan.base, max_minutes=max_minutes)
        plan = dataclasses.replace(plan, base=changed)
    pprint(plan, console=_console)
    trainer = BaseTrainer(plan, folder / "base")
    if resume:
        trainer.resume()
    trainer.run()


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="Folder to write the checkpoint to.")],
    recipe: RecipeOption = "built-in",
    out: OutOption = None,
) -> None:
    """Write the trained base as a folder that transformers and the other stages open."""
    from training.export import export_base

    plan, folder = _open(recipe, out)
    try:
        export_base(plan, folder / "base", model)
    except ValueError as error:
        raise Failure(str(error)) from error
    _console.print(f"wrote {model}")


@app.command(name="all")
def all_stages(
    recipe: RecipeOption = "built-in", out: OutOption = None, resume: ResumeOption = False
) -> None:
    """Make a model from nothing: base, labels, RPN, gate, thresholds; OUT/model is ready to serve.

    What is finished is not done again with --resume.
    """
    plan, folder = _open(recipe, out)
    plain, model = folder / "base-model", folder / "model"
    stage = plan.stages
    changes, threads = list(stage.changes), plan.threads
    base(recipe, folder, resume)
    export(plain, recipe, folder)
    heads = stage.heads
    if heads is None:
        heads = str(folder / "heads.json")
        if not (resume and Path(heads).is_file()):
            label.find_heads(
                plain, stage.heads_data, Path(heads), stage.recipe, changes=changes, threads=threads
            )
    label.rpn(
        plain, stage.rpn_data, folder / "labels-rpn", stage.recipe,
        heads=heads, changes=changes, threads=threads,
    )  # fmt: skip
    stages.rpn(
        plain, [folder / "labels-rpn", folder / "rpn"], stage.recipe,
        resume=resume, changes=changes, threads=threads,
    )  # fmt: skip
    label.gate(
        plain, stage.gate_data, folder / "labels-gate", stage.recipe,
        changes=changes, threads=threads,
    )  # fmt: skip
    stages.gate(
        plain, [folder / "labels-gate", folder / "gate"], stage.recipe,
        resume=resume, changes=changes, threads=threads,
    )  # fmt: skip
    if resume:
        shutil.rmtree(model, ignore_errors=True)  # put together anew from its parts
    convert(plain, model, parts=[folder / "rpn", folder / "gate"])
    calibrate(
        model,
        questions=CALIBRATION_QUESTIONS,
        tolerance=CALIBRATION_TOLERANCE,
        threads=threads,
    )
