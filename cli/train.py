"""`qzoom train`: the stages of a model, each resumable."""

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.pretty import pprint

from cli import stages

if TYPE_CHECKING:
    from training.recipe import Recipe

app = typer.Typer(help="Train a model, stage by stage.", no_args_is_help=True)
app.command()(stages.rpn)
app.command()(stages.gate)
app.command(name="post-sft")(stages.post_sft)
_console = Console()

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
def branches(
    recipe: RecipeOption = "built-in", out: OutOption = None, resume: ResumeOption = False
) -> None:
    """Train RPN and gate side by side on the same pictures: faster than one after the other."""
    from training.branch_loop import train_branches
    from training.gate import GateTrainer
    from training.rpn import RpnTrainer

    plan, folder = _open(recipe, out)
    pprint(plan.rpn, console=_console)
    trainers = [
        kind(plan, folder / "base", folder / kind.name) for kind in (RpnTrainer, GateTrainer)
    ]
    for trainer in trainers:
        if resume:
            trainer.resume()
    train_branches(trainers)
    for trainer in trainers:
        trainer.validate()


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="Folder to write the checkpoint to.")],
    recipe: RecipeOption = "built-in",
    out: OutOption = None,
) -> None:
    """Write base, RPN and gate as one folder that serving and transformers open."""
    from training.export import export_model

    plan, folder = _open(recipe, out)
    export_model(plan, folder, model)
    _console.print(f"wrote {model}")


@app.command(name="all")
def all_stages(
    recipe: RecipeOption = "built-in", out: OutOption = None, resume: ResumeOption = False
) -> None:
    """Train base, RPN and gate from nothing, and write them to OUT/model."""
    _, folder = _open(recipe, out)
    base(recipe, folder, resume)
    branches(recipe, folder, resume)
    export(folder / "model", recipe, folder)


@app.command()
def measure(
    recipe: RecipeOption = "built-in",
    out: OutOption = None,
    pictures: Annotated[int, typer.Option(min=1, help="Test pictures.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Number of the test set.")] = 0,
) -> None:
    """Measure the trained stages on pictures of the test split."""
    from training.report import measure_run

    plan, folder = _open(recipe, out)
    for line in measure_run(plan, folder, pictures, seed):
        _console.print(line)
