"""`qzoom label`: labels that a model makes for itself, without boxes."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cli.console import Failure, err, out
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
    from collections.abc import Mapping

    from training.labels.jobs import LabelJob, Machine
    from training.reading.reader import Heads

app = typer.Typer(help="Label data with a model's own answers and attention.", no_args_is_help=True)

HEADS_FILE = "heads.json"


class ModeName(StrEnum):
    """Kinds of pictures."""

    TEXTUAL = "textual"
    NATURAL = "natural"


DataArg = Annotated[
    str, typer.Argument(help="builtin:SPLIT?seed=N&count=N, a file or folder, or FORMAT:PATH.")
]
OutArg = Annotated[Path, typer.Argument(help="Folder for the labels; an unfinished one goes on.")]
ModeOption = Annotated[ModeName, typer.Option(help="Kind of pictures: heads and prompt.")]
HeadsOption = Annotated[
    str | None, typer.Option(help="Layers and heads from 0, such as '5:0,1;6:*', or heads.json.")
]


@app.command()
def rpn(
    model: ModelArg,
    data: DataArg,
    folder: OutArg,
    recipe: RecipeOption = DEFAULT_RECIPE,
    mode: ModeOption = ModeName.TEXTUAL,
    heads: HeadsOption = None,
    choose_heads: Annotated[
        int | None, typer.Option(min=8, help="Find layers and heads on that many pictures first.")
    ] = None,
    answers: Annotated[
        bool, typer.Option(help="Feed the data's answers back instead of the model's own.")
    ] = False,
    changes: SetOption = None,
    device: DeviceOption = "cpu",
    dtype: DTypeOption = DTypeName.FLOAT32,
    threads: ThreadsOption = 1,
    num_workers: WorkersOption = 1,
    num_cpus: CpusOption = 1,
) -> None:
    """Record where the model looks while it answers: labels of the RPN (Eq. 10-12)."""
    from training.labels.jobs import RegionLabelJob
    from training.stages.recipe import load_stage_recipe

    plan = load_stage_recipe(recipe, changes or ())
    machine = machine_of(device, dtype, threads)
    chosen = _read_heads(heads)
    stored = folder / HEADS_FILE
    if choose_heads is not None and chosen is None:
        if not stored.is_file():
            _choose(model, data, stored, plan, mode, choose_heads, machine)
        chosen = _read_heads(str(stored))
    run_job(
        RegionLabelJob(
            model=model,
            data=data,
            out=folder,
            recipe=plan,
            mode=mode.value,
            heads=chosen,
            use_answers=answers,
            machine=machine,
        ),
        num_workers,
        num_cpus,
    )


@app.command()
def gate(
    model: ModelArg,
    data: DataArg,
    folder: OutArg,
    recipe: RecipeOption = DEFAULT_RECIPE,
    changes: SetOption = None,
    device: DeviceOption = "cpu",
    dtype: DTypeOption = DTypeName.FLOAT32,
    threads: ThreadsOption = 1,
    num_workers: WorkersOption = 1,
    num_cpus: CpusOption = 1,
) -> None:
    """Answer along a rising trajectory of resolutions: labels of the gate (III-B)."""
    from training.labels.gate import choose_trajectories, read_trajectories
    from training.labels.jobs import GateLabelJob
    from training.labels.shards import LabelFolder
    from training.stages.recipe import load_stage_recipe

    plan = load_stage_recipe(recipe, changes or ())
    machine = machine_of(device, dtype, threads)
    job = GateLabelJob(model=model, data=data, out=folder, recipe=plan, machine=machine)
    run_job(job, num_workers, num_cpus)
    found = list(read_trajectories(LabelFolder.open(folder)))
    table = Table("visual tokens", *map(str, plan.gate_labels.budgets), title="right answers")
    shares = [sum(t.right[i] for t in found) / len(found) for i in range(len(found[0].right))]
    table.add_row(f"{len(found)} questions", *(f"{share:.3f}" for share in shares))
    out.print(table)
    kept = choose_trajectories(found, "consistency", None, 0)
    hard = sum(not all(t.right) for t in kept)
    out.print(f"{len(kept)} consistent: {hard} need resolution, {len(kept) - hard} do not")


@app.command(name="hard-samples")
def hard_samples(
    model: ModelArg,
    data: DataArg,
    folder: OutArg,
    recipe: RecipeOption = DEFAULT_RECIPE,
    judge_url: Annotated[
        str | None,
        typer.Option(help="OpenAI-compatible endpoint of a judge, such as http://host:8000/v1."),
    ] = None,
    judge_model: Annotated[str, typer.Option(help="The judge's name there.")] = "",
    changes: SetOption = None,
    device: DeviceOption = "cpu",
    dtype: DTypeOption = DTypeName.FLOAT32,
    threads: ThreadsOption = 1,
    num_workers: WorkersOption = 1,
    num_cpus: CpusOption = 1,
) -> None:
    """Answer with and without a crop; what only the crop breaks is for Post-SFT (III-D)."""
    from training.labels.hard import read_comparisons
    from training.labels.jobs import HardSampleJob
    from training.labels.shards import LabelFolder
    from training.stages.recipe import load_stage_recipe

    run_job(
        HardSampleJob(
            model=model,
            data=data,
            out=folder,
            recipe=load_stage_recipe(recipe, changes or ()),
            judge_url=judge_url,
            judge_model=judge_model,
            machine=machine_of(device, dtype, threads),
        ),
        num_workers,
        num_cpus,
    )
    found = list(read_comparisons(LabelFolder.open(folder)))
    table = Table("", "right with crop", "wrong with crop", title=f"{len(found)} questions")
    for name, base in (("right without", True), ("wrong without", False)):
        rows = [c.roi_right for c in found if c.base_right == base]
        table.add_row(name, str(sum(rows)), str(len(rows) - sum(rows)))
    out.print(table)
    out.print(f"{sum(c.is_hard for c in found)} hard samples")


@app.command(name="heads")
def find_heads(
    model: ModelArg,
    data: DataArg,
    file: Annotated[Path, typer.Argument(help="JSON file to write, for --heads.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    mode: ModeOption = ModeName.TEXTUAL,
    pictures: Annotated[int, typer.Option(min=8, help="Pictures to try heads on.")] = 100,
    changes: SetOption = None,
    device: DeviceOption = "cpu",
    dtype: DTypeOption = DTypeName.FLOAT32,
    threads: ThreadsOption = 1,
) -> None:
    """Find the layers and heads that know where to look, without boxes."""
    from training.stages.recipe import load_stage_recipe

    plan = load_stage_recipe(recipe, changes or ())
    _choose(model, data, file, plan, mode, pictures, machine_of(device, dtype, threads))


@app.command()
def measure(
    model: ModelArg,
    data: DataArg,
    heads: Annotated[str, typer.Option(help="Layers and heads, or heads.json.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    mode: ModeOption = ModeName.TEXTUAL,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures to measure on.")] = 100,
    random_sets: Annotated[int, typer.Option(min=1, max=100, help="Random draws.")] = 5,
    changes: SetOption = None,
    device: DeviceOption = "cpu",
    dtype: DTypeOption = DTypeName.FLOAT32,
    threads: ThreadsOption = 1,
) -> None:
    """Compare labels of chosen, random and all heads with evidence boxes, which no label sees."""
    from training.labels.data import open_groups
    from training.labels.jobs import check_heads, open_reader
    from training.labels.measure import LabelQuality, head_sets, measure_heads
    from training.stages.recipe import load_stage_recipe

    plan = load_stage_recipe(recipe, changes or ())
    chosen = _read_heads(heads) or {}
    reader = open_reader(model, plan, mode.value, machine_of(device, dtype, threads))
    check_heads(reader.checkpoint, chosen)
    config = reader.backbone.config
    sets = head_sets(chosen, config.num_hidden_layers, config.num_attention_heads, random_sets)
    groups, skipped = open_groups(data)
    groups = groups[:pictures]
    _tell_skipped(skipped)
    labels = plan.region_labels
    found: dict[str, LabelQuality] = {}
    with _progress() as bar:
        task = bar.add_task("measuring", total=len(groups))
        for latest in measure_heads(
            reader,
            groups,
            sets,
            labels.rules,
            max_tokens=labels.max_tokens,
            max_new_tokens=labels.max_new_tokens,
            rows=labels.rows,
        ):
            bar.advance(task)
            found = latest
    if not found:
        raise Failure(f"no question of {data} has an evidence box and an answer to follow")
    title = f"label boxes against evidence, {found['chosen'].questions} questions"
    table = Table("heads", "centre inside", "peak inside", "mean area", title=title)
    for name, quality in found.items():
        row = (quality.centre_inside, quality.peak_inside, quality.area)
        table.add_row(name, *(f"{v:.3f}" for v in row))
    out.print(table)


@app.command()
def show(
    labels: Annotated[Path, typer.Argument(help="Label folder of `qzoom label rpn`.")],
    picture: Annotated[Path, typer.Argument(help="PNG file to write.")] = Path("labels.png"),
    recipe: RecipeOption = DEFAULT_RECIPE,
    count: Annotated[int, typer.Option(min=1, max=60, help="Questions to show.")] = 8,
    first: Annotated[int, typer.Option(min=0, help="Number of the first question.")] = 0,
    grid: Annotated[
        int, typer.Option(min=1, help="Coarse budget in visual tokens that labels are for.")
    ] = 36,
    changes: SetOption = None,
) -> None:
    """Draw labels over their pictures: attention left; right green foreground, red background."""
    from training.labels.gallery import gallery
    from training.stages.recipe import load_stage_recipe

    rules = load_stage_recipe(recipe, changes or ()).region_labels.rules
    gallery(labels, rules, first, count, grid).save(picture)
    out.print(f"wrote {picture}", highlight=False)


def run_job(job: "LabelJob", num_workers: int, num_cpus: int) -> None:
    """Make labels with a progress bar; several workers are Ray's."""
    from training.labels.jobs import run_here
    from training.labels.shards import LabelFolder

    if num_workers == 1:
        made = run_here(job)
    else:
        from deploy.ray_training import Workers, label_with_ray

        num_gpus = int(job.machine.device.startswith("cuda"))
        made = label_with_ray(job, Workers(num_workers, num_cpus, num_gpus))
    with _progress() as bar:
        # Shown when work begins: a refusal comes alone.
        task = bar.add_task("labelling", total=None, visible=False)
        for number, (done, total) in enumerate(made):
            if number == 0:
                _tell_skipped(LabelFolder.open(job.out).job)
            bar.update(task, completed=done, total=total, visible=True)
    out.print(f"labels in {job.out}", highlight=False)


def _tell_skipped(about: "Mapping[str, Any]") -> None:
    """Say which records cannot be used."""
    if about.get("skipped"):
        err.print(f"{about['skipped']} records are skipped, the first:", highlight=False)
        for line in about["skipped_first"]:
            err.print(f"  {line}", markup=False, highlight=False)


def _choose(
    model: Path,
    data: str,
    file: Path,
    plan: "object",
    mode: ModeName,
    pictures: int,
    machine: "Machine",
) -> None:
    from training.labels.data import open_groups
    from training.labels.heads import HeadChooser, choose_heads, probes
    from training.labels.jobs import open_reader
    from training.labels.shards import write_whole
    from training.stages.recipe import StageRecipe

    assert isinstance(plan, StageRecipe)
    labels = plan.region_labels
    reader = open_reader(model, plan, mode.value, machine)
    groups, skipped = open_groups(data)
    groups = groups[:pictures]
    _tell_skipped(skipped)
    budget = labels.max_tokens or reader.checkpoint.qzoom.coarse_max_tokens
    found = []
    with _progress() as bar:
        task = bar.add_task("reading", total=len(groups))
        for some in probes(reader, groups, budget, labels.max_new_tokens, labels.rows):
            found += some
            bar.advance(task)
    chooser = HeadChooser(reader, labels.rules, found)
    try:
        choice = choose_heads(chooser, progress=lambda text: err.print(text, highlight=False))
    except ValueError as error:
        raise Failure(str(error)) from error
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(choice.to_json(), indent=2).encode() + b"\n")
    title = f"on {choice.questions[1]} held-out questions"
    table = Table("heads", "log p(full answer)", "same answer", "mean crop", title=title)
    for name, score in choice.table.items():
        row = f"{score.log_probability:.3f}", f"{score.consistency:.3f}", f"{score.area:.3f}"
        table.add_row(name, *row)
    out.print(table)
    out.print(f"layer:head {', '.join(f'{a}:{b}' for a, b in choice.heads)} in {file}")


def _read_heads(text: str | None) -> "Heads | None":
    from training.labels.jobs import parse_heads

    if text is None:
        return None
    if not text.endswith(".json"):
        return parse_heads(text)
    try:
        values = json.loads(Path(text).read_text(encoding="utf-8"))["heads"]
        return {int(layer): [int(h) for h in heads] for layer, heads in values.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failure(f"{text} is no file of `qzoom label heads`: {error!r}") from error


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
    )
