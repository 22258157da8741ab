"""`qzoom convert`: from a published checkpoint to our own format, with trained stages put in."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import Failure, out
from cli.verify import PresetName


def convert(
    source: Annotated[Path, typer.Argument(help="Checkpoint folder, the authors' or our own.")],
    target: Annotated[Path, typer.Argument(help="Folder to make.")],
    base: Annotated[
        Path | None,
        typer.Option(help="Folder of the base model, to fill a pruned checkpoint."),
    ] = None,
    preset: Annotated[
        PresetName | None,
        typer.Option(help="Variant of the method; `released` for published checkpoints."),
    ] = None,
    parts: Annotated[
        list[Path] | None,
        typer.Option("--with", help="Run of a trained stage (`qzoom train`) to put in; repeat."),
    ] = None,
) -> None:
    """Convert a checkpoint once, so that plain transformers opens it too; put trained stages in.

    Needs no more memory than the largest file that it writes, at most 4 GiB. Doing it again
    changes nothing.
    """
    from qzoom.model.loading import CheckpointError, open_checkpoint
    from qzoom.model.loading.convert import convert as convert_folder

    try:
        if parts:
            from training.stages.parts import merge

            merge(open_checkpoint(source, preset.value if preset else None, base), parts, target)
            out.print(f"wrote {target}", highlight=False)
            return
        is_new = convert_folder(source, target, preset=preset.value if preset else None, base=base)
    except (CheckpointError, OSError) as error:
        raise Failure(str(error)) from error
    out.print(f"{'wrote' if is_new else 'nothing to do:'} {target}", highlight=False)
