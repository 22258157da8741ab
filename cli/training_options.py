"""Which options do `qzoom label` and `qzoom train` share?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.dtypes import DTypeName

if TYPE_CHECKING:
    from training.labels.jobs import Machine

ModelArg = Annotated[Path, typer.Argument(help="Checkpoint folder of the base model.")]
RecipeOption = Annotated[str, typer.Option(help="Name of a recipe, or path of a YAML file.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Replaces a value: region_labels.max_tokens=324.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]
DTypeOption = Annotated[DTypeName, typer.Option(help="Type of frozen parameters.")]
ThreadsOption = Annotated[int, typer.Option(min=1, max=256, help="CPU threads of a worker.")]
WorkersOption = Annotated[
    int, typer.Option("--num-workers", min=1, max=4096, help="Processes; more than one need Ray.")
]
CpusOption = Annotated[
    int, typer.Option("--num-cpus", min=1, max=256, help="CPU cores of each Ray worker.")
]
DEFAULT_RECIPE = "built-in-stages"


def machine_of(device: str, dtype: DTypeName, threads: int) -> "Machine":
    """Say where to compute."""
    from training.labels.jobs import Machine

    return Machine(device=device, dtype=dtype.value, threads=threads)
