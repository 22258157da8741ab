"""`qzoom data`: make synthetic pictures with questions, look at them, check data of your own."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

app = typer.Typer(help="Make and look at synthetic data; check your own.", no_args_is_help=True)
_console = Console()


class SplitName(StrEnum):
    """Seed ranges."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class FormatName(StrEnum):
    """File formats of pictures."""

    PNG = "png"
    JPEG = "jpeg"


SplitOption = Annotated[SplitName, typer.Option(help="Seed range; the three never overlap.")]
SeedOption = Annotated[int, typer.Option(min=0, max=1 << 19, help="Number of the data set.")]


@app.command()
def make(
    out: Annotated[Path, typer.Argument(help="Folder to write pictures and data.jsonl to.")],
    split: SplitOption = SplitName.VAL,
    seed: SeedOption = 0,
    count: Annotated[int, typer.Option(min=1, max=1 << 20, help="Pictures.")] = 100,
    image_format: Annotated[FormatName, typer.Option("--format")] = FormatName.PNG,
) -> None:
    """Write COUNT pictures and their questions."""
    from qzoom.data.dataset import write_dataset

    written = write_dataset(out, split.value, seed, count, image_format.value)
    for _ in track(written, total=count, description="drawing", console=_console):
        pass
    _console.print(f"{count} pictures and {out / 'data.jsonl'}")


@app.command()
def show(
    out: Annotated[Path, typer.Argument(help="PNG file to write.")] = Path("contact-sheet.png"),
    split: SplitOption = SplitName.VAL,
    seed: SeedOption = 0,
    count: Annotated[int, typer.Option(min=1, max=60, help="Pictures.")] = 9,
) -> None:
    """Draw a contact sheet: pictures, evidence boxes, questions and answers."""
    from qzoom.data.contact_sheet import contact_sheet
    from qzoom.data.dataset import example

    pictures = [example(split.value, seed, index)[1:] for index in range(count)]
    contact_sheet(pictures).save(out)
    _console.print(f"wrote {out}: red needs detail, green is large print, blue is coarse")


@app.command()
def check(
    data: Annotated[str, typer.Argument(help="A file or folder, or FORMAT:PATH.")],
    name_split: Annotated[
        str, typer.Option("--split", help="Split of a Hugging Face folder.")
    ] = "",
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures; the data set's if not given.")
    ] = None,
) -> None:
    """Read your own data set: how many records it has, and which ones cannot be used, and why."""
    from collections import Counter

    from qzoom.data.readers import Problems
    from qzoom.data.records import iter_records

    problems, groups, with_answers = Problems(), Counter[str](), 0
    for record in iter_records(data, problems, split=name_split, image_root=images):
        groups[record.group or "(no group)"] += 1
        with_answers += bool(record.answers)
    _console.print(f"{groups.total()} records, {with_answers} with an answer", highlight=False)
    for name, count in groups.most_common(12) if len(groups) > 1 else ():
        _console.print(f"  {count:7} {name}", markup=False, highlight=False)
    _console.print(str(problems), markup=False, highlight=False)
    if problems.count:
        raise typer.Exit(1)
