"""Label jobs: plain data that any process can be given, and the worker that does a part of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from qzoom.data.record import Record
from qzoom.errors import InvalidRequest
from qzoom.model.loading import Checkpoint
from qzoom.model.rpn import RegionProposer
from training.labels.data import open_groups
from training.labels.gate import KIND as GATE_KIND
from training.labels.gate import label_trajectories
from training.labels.hard import KIND as HARD_KIND
from training.labels.hard import compare_pictures
from training.labels.judge import is_right
from training.labels.llm_judge import LlmJudge, Pair
from training.labels.rpn import KIND, RegionJob, heads_to_json, label_pictures
from training.labels.shards import LabelFolder, Shard
from training.reading.reader import Heads, Reader
from training.stages.recipe import HeadsOf, Mode, StageRecipe
from training.stages.setup import base_revision, open_for_stage

PICTURES_PER_SHARD = 32

DType = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where to compute.

    Attributes:
        device: As torch names it.
        dtype: Of frozen parameters and states.
        threads: CPU threads of a worker.
    """

    device: str = "cpu"
    dtype: DType = "float32"
    threads: int = 1

    def prepare(self) -> tuple[torch.device, torch.dtype]:
        """Set the threads; return what torch wants.

        Raises:
            InvalidRequest: If there is no such device.
        """
        torch.set_num_threads(self.threads)
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise InvalidRequest(f"device {self.device!r} cannot be used: {error}") from error
        return device, getattr(torch, self.dtype)


class LabelJob(Protocol):
    """One `qzoom label` command."""

    @property
    def out(self) -> Path:
        """Label folder."""
        ...

    @property
    def machine(self) -> Machine:
        """Where to compute."""
        ...

    def describe(self) -> dict[str, Any]:
        """What was asked for; equal descriptions make equal labels."""
        ...

    def worker(self) -> Callable[[int], Shard]:
        """Load the model; the result makes one shard."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionLabelJob:
    """`qzoom label rpn`.

    Attributes:
        model: Checkpoint folder.
        data: Name of the data set (see `qzoom.data.records`).
        out: Label folder.
        recipe: Gives budgets, prompt and rules.
        mode: Kind of pictures.
        heads: Replaces the recipe's heads.
        use_answers: Feed the records' answers back instead of the model's own.
        machine: Where to compute.
    """

    model: Path
    data: str
    out: Path
    recipe: StageRecipe
    mode: Mode = "textual"
    heads: Heads | None = None
    use_answers: bool = False
    machine: Machine = field(default_factory=Machine)

    def region_job(self) -> RegionJob:
        """The attention that is taken.

        Raises:
            InvalidRequest: If nothing says which heads.
        """
        chosen = mode_of(self.recipe, self.mode)
        heads = self.heads or chosen.heads
        if not heads:
            raise InvalidRequest(
                f"the recipe {self.recipe.name} names no heads for mode {self.mode}; give --heads, "
                "or --choose-heads to find them"
            )
        labels = self.recipe.region_labels
        return RegionJob(
            heads=heads,
            sink_heads=chosen.sink_heads,
            max_tokens=labels.max_tokens,
            max_new_tokens=labels.max_new_tokens,
            use_answers=self.use_answers,
            rows=labels.rows,
        )

    def describe(self) -> dict[str, Any]:
        """See `LabelJob`.

        Raises:
            InvalidRequest: If the heads do not fit the model.
        """
        checkpoint = open_for_stage(self.model, self.recipe)
        job = self.region_job()
        check_heads(checkpoint, job.heads)
        check_heads(checkpoint, job.sink_heads)
        groups, skipped = open_groups(self.data)
        return {
            "kind": KIND,
            "family": checkpoint.family,
            "base_revision": base_revision(checkpoint),
            "data": self.data,
            "questions": sum(len(group) for group in groups),
            "suffix": suffix_of(self.recipe, self.mode),
            "shards": -(-len(groups) // PICTURES_PER_SHARD),
            **job.to_dict(),
            **skipped,
        }

    def worker(self) -> Callable[[int], Shard]:
        """See `LabelJob`."""
        reader = open_reader(self.model, self.recipe, self.mode, self.machine)
        groups, _ = open_groups(self.data)
        job = self.region_job()
        return lambda number: label_pictures(reader, shard_part(groups, number), job)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLabelJob:
    """`qzoom label gate`.

    Attributes:
        model: Checkpoint folder.
        data: Name of the data set; its records need answers.
        out: Label folder.
        recipe: Gives resolutions, prompt, and when an answer is right.
        machine: Where to compute.
    """

    model: Path
    data: str
    out: Path
    recipe: StageRecipe
    machine: Machine = field(default_factory=Machine)

    def describe(self) -> dict[str, Any]:
        """See `LabelJob`.

        Raises:
            InvalidRequest: If no record has an answer.
        """
        checkpoint = open_for_stage(self.model, self.recipe)
        groups, skipped = open_groups(self.data)
        questions = sum(bool(record.answers) for group in groups for record in group)
        if not questions:
            raise InvalidRequest(f"no record of {self.data} has an answer to compare with")
        settings = self.recipe.gate_labels
        return {
            "kind": GATE_KIND,
            "family": checkpoint.family,
            "base_revision": base_revision(checkpoint),
            "data": self.data,
            "questions": questions,
            "suffix": self.recipe.suffix,
            "shards": -(-len(groups) // PICTURES_PER_SHARD),
            "budgets": settings.budgets,
            "max_new_tokens": settings.max_new_tokens,
            "match": settings.match,
            "anls": settings.anls,
            **skipped,
        }

    def worker(self) -> Callable[[int], Shard]:
        """See `LabelJob`."""
        device, dtype = self.machine.prepare()
        checkpoint = open_for_stage(self.model, self.recipe)
        suffix = self.recipe.suffix
        reader = Reader.load(checkpoint, device=device, dtype=dtype, suffix=suffix)
        groups, _ = open_groups(self.data)
        settings = self.recipe.gate_labels
        return lambda number: label_trajectories(
            reader,
            shard_part(groups, number),
            settings.budgets,
            settings.max_new_tokens,
            settings.match,
            settings.anls,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HardSampleJob:
    """`qzoom label hard-samples`.

    Attributes:
        model: Checkpoint folder with an RPN.
        data: Name of the data set; its records need answers.
        out: Label folder.
        recipe: Gives prompt, and when an answer is right.
        judge_url: Endpoint of a judging language model; None compares texts.
        judge_model: Its name there.
        machine: Where to compute.
    """

    model: Path
    data: str
    out: Path
    recipe: StageRecipe
    judge_url: str | None = None
    judge_model: str = ""
    machine: Machine = field(default_factory=Machine)

    def describe(self) -> dict[str, Any]:
        """See `LabelJob`.

        Raises:
            InvalidRequest: If the model has no RPN.
        """
        checkpoint = open_for_stage(self.model, self.recipe)
        if not checkpoint.qzoom.has_rpn:
            raise InvalidRequest(f"{self.model} has no RPN; `qzoom train rpn` makes one")
        groups, skipped = open_groups(self.data)
        return {
            "kind": HARD_KIND,
            "family": checkpoint.family,
            "base_revision": base_revision(checkpoint),
            "data": self.data,
            "questions": sum(bool(record.answers) for group in groups for record in group),
            "suffix": self.recipe.suffix,
            "shards": -(-len(groups) // PICTURES_PER_SHARD),
            "tau_roi": checkpoint.qzoom.tau_roi,
            "judge": self.judge_model if self.judge_url else "text",
            **self.recipe.hard_samples.model_dump(),
            **skipped,
        }

    def worker(self) -> Callable[[int], Shard]:
        """See `LabelJob`."""
        device, dtype = self.machine.prepare()
        checkpoint = open_for_stage(self.model, self.recipe)
        suffix, settings = self.recipe.suffix, self.recipe.hard_samples
        reader = Reader.load(checkpoint, device=device, dtype=dtype, suffix=suffix)
        rpn = RegionProposer.load(checkpoint, device=device, dtype=dtype)
        groups, _ = open_groups(self.data)
        model = LlmJudge(self.judge_url, self.judge_model) if self.judge_url else None

        def judge(
            pairs: Sequence[Pair], truths: Sequence[Sequence[str]]
        ) -> Sequence[tuple[bool, bool] | None]:
            if model is not None:
                return model.judge(pairs)
            match, threshold = settings.match, settings.anls
            return [
                (
                    is_right(pair.base, accepted, match, threshold),
                    is_right(pair.roi, accepted, match, threshold),
                )
                for pair, accepted in zip(pairs, truths, strict=True)
            ]

        return lambda number: compare_pictures(
            reader, rpn, shard_part(groups, number), settings.max_new_tokens, judge
        )


def mode_of(recipe: StageRecipe, mode: Mode) -> HeadsOf:
    """The recipe's heads and prompt for a kind of pictures."""
    return recipe.region_labels.modes.get(mode, HeadsOf())


def suffix_of(recipe: StageRecipe, mode: Mode) -> str:
    """What is put after every question."""
    own = mode_of(recipe, mode).suffix
    return recipe.suffix if own is None else own


def open_reader(model: Path, recipe: StageRecipe, mode: Mode, machine: Machine) -> Reader:
    """Load the frozen model."""
    device, dtype = machine.prepare()
    checkpoint = open_for_stage(model, recipe)
    return Reader.load(checkpoint, device=device, dtype=dtype, suffix=suffix_of(recipe, mode))


def shard_part(groups: Sequence[list[Record]], number: int) -> Sequence[list[Record]]:
    """The pictures of one shard."""
    return groups[number * PICTURES_PER_SHARD : (number + 1) * PICTURES_PER_SHARD]


def check_heads(checkpoint: Checkpoint, heads: Heads) -> None:
    """Refuse layers and heads that the model does not have.

    Raises:
        InvalidRequest: Naming the layer or head and the limit.
    """
    text = checkpoint.hf_config.get_text_config()
    for layer, chosen in heads.items():
        if not 0 <= layer < text.num_hidden_layers:
            raise InvalidRequest(
                f"layer {layer} does not exist, there are {text.num_hidden_layers}"
            )
        for head in chosen:
            if not 0 <= head < text.num_attention_heads:
                raise InvalidRequest(
                    f"head {head} of layer {layer} does not exist, there are "
                    f"{text.num_attention_heads}"
                )


def parse_heads(text: str) -> dict[int, list[int]]:
    """Read `5:0,1;6:*`.

    Raises:
        InvalidRequest: If it is written otherwise.
    """
    found: dict[int, list[int]] = {}
    try:
        for part in text.split(";"):
            layer, _, heads = part.partition(":")
            found[int(layer)] = [] if heads.strip() == "*" else [int(h) for h in heads.split(",")]
    except ValueError as error:
        raise InvalidRequest(f"heads {text!r} must look like 5:0,1;6:* (layer:heads)") from error
    return found


def run_here(job: LabelJob) -> Iterator[tuple[int, int]]:
    """Make what is missing, in this process.

    Yields:
        (shards done, shards in all), first before any work.
    """
    folder = LabelFolder.create(job.out, job.describe())
    missing = folder.missing()
    total = int(folder.job["shards"])
    yield total - len(missing), total
    if not missing:
        return
    make = job.worker()
    for done, number in enumerate(missing, start=total - len(missing) + 1):
        folder.write(number, make(number))
        yield done, total


__all__ = ["LabelJob", "Machine", "RegionLabelJob", "heads_to_json", "parse_heads", "run_here"]
