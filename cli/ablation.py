"""`qzoom evaluate ablation`: the paper's other tables and figures, on a named schedule."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markdown import Markdown

from cli.console import Failure, err, out

NamesArgument = Annotated[
    list[str] | None, typer.Argument(help="Which ones; all that train nothing if none is given.")
]


def ablation(
    names: NamesArgument = None,
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint folder; the built-in model if not given.")
    ] = None,
    save: Annotated[
        Path,
        typer.Option(help="Folder for labels, variants and reports; goes on where it stopped."),
    ] = Path("ablation"),
    schedule: Annotated[str, typer.Option(help="smoke, short or full.")] = "short",
    recipe: Annotated[str, typer.Option(help="Recipe of the stages.")] = "built-in-stages",
    heads: Annotated[
        str | None, typer.Option(help="Heads that make the labels, as 5:0,1;6:*.")
    ] = None,
    before_sft: Annotated[
        Path | None, typer.Option(help="table-4: the checkpoint from before Post-SFT.")
    ] = None,
    detector: Annotated[
        Path | None, typer.Option(help="table-5: folder of GroundingDINO's weights.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="CPU threads.")] = 1,
    list_only: Annotated[bool, typer.Option("--list", help="Name them, and stop.")] = False,
) -> None:
    """Make the shapes of the paper's Tables I, IV to VIII and Figs. 5, 7 and 9, and store them."""
    import torch

    command = " ".join(["qzoom", *sys.argv[1:]])
    from evaluation.ablation.registry import ABLATIONS, find_ablation
    from evaluation.ablation.schedule import find_schedule
    from evaluation.ablation.workshop import Workshop
    from qzoom.builtin import builtin_model
    from training.labels.jobs import parse_heads

    if list_only:
        for name, known in ABLATIONS.items():
            out.print(f"{name:15}{'trains  ' if known.trains else '        '}{known.shows}")
        return
    wanted = names or [name for name, known in ABLATIONS.items() if not known.trains]
    chosen = {name: find_ablation(name).run for name in wanted}
    if "table-4" in chosen and before_sft is not None:
        from evaluation.ablation import components

        chosen["table-4"] = partial(components.run, before_sft=before_sft)
    if "table-5" in chosen and detector is not None:
        from evaluation.ablation import rivals

        chosen["table-5"] = partial(rivals.run, detector=detector)
    if before_sft is not None and "table-4" not in chosen:
        raise Failure("--before-sft is for table-4, which is not asked for")
    torch.set_num_threads(threads)
    workshop = Workshop(
        model or builtin_model(), recipe, find_schedule(schedule), save,
        heads=None if heads is None else parse_heads(heads),
        tell=lambda text: err.print(f"  {text}", highlight=False, markup=False),
    )  # fmt: skip
    for name, make in chosen.items():
        err.print(f"[bold]{name}[/]")
        report = make(workshop)
        report.about.update(workshop.about() | {"command": command})
        report.save(save)
        out.print(Markdown(report.markdown()))
    err.print(f"wrote {', '.join(chosen)} to {save}")
