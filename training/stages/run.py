"""Run a stage from its folders: checks first, then training, then the part that it leaves."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor

from qzoom.model.loading import Checkpoint
from training.labels.jobs import Machine
from training.labels.shards import write_whole
from training.stages.branches import GateBranch, RpnBranch
from training.stages.gate import GateTask, read_gate_data
from training.stages.loop import Progress, train
from training.stages.parts import write_part
from training.stages.post_sft import PostSftTask, read_hard_samples
from training.stages.recipe import StageRecipe
from training.stages.rpn import RpnTask, read_rpn_data
from training.stages.setup import open_for_stage
from training.stages.states import FrozenLower
from training.stages.workers import Workers

OnStep = Callable[[Progress], None]


class Train(Protocol):
    """One of the stages below."""

    def __call__(self, run: "StageRun", on_step: OnStep = ...) -> None:
        """Train it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRun:
    """One `qzoom train` command: plain data, so that any process can be given it.

    Attributes:
        model: Checkpoint folder.
        labels: Label folders.
        out: Run folder.
        recipe: How.
        resume: Go on from the latest checkpoint.
        data: Replaces the data set that the labels name.
        machine: Where to compute.
        continue_rpn: Start the RPN from the checkpoint's instead of its layers (stage 2.5).
    """

    model: Path
    labels: Sequence[Path]
    out: Path
    recipe: StageRecipe
    resume: bool = False
    data: str | None = None
    machine: Machine = field(default_factory=Machine)
    continue_rpn: bool = False


def train_rpn(run: StageRun, on_step: OnStep = lambda _: None) -> None:
    """`qzoom train rpn`.

    Raises:
        InvalidRequest: If model, recipe, labels and data do not fit, before any work.
    """
    device, dtype = run.machine.prepare()
    plan, recipe = run.recipe.rpn, run.recipe
    checkpoint = open_for_stage(run.model, recipe)
    data, about = read_rpn_data(run.labels, checkpoint, recipe.region_labels, run.data)
    branch = RpnBranch(
        checkpoint, device=device, from_rpn=run.continue_rpn, recompute=plan.recompute
    )
    frozen = FrozenLower.load(
        without_branches(checkpoint), device=device, dtype=dtype, suffix=recipe.suffix
    )
    rules = recipe.region_labels.rules
    task = RpnTask(branch, frozen, data, rules, plan.cache_mb)
    about |= {"rules": rules.to_dict(), "continue_rpn": run.continue_rpn}
    train(task, plan, run.out, about=about, device=device, resume=run.resume, on_step=on_step)
    finished = dataclasses.replace(checkpoint.qzoom, has_rpn=True)
    _finish(run, task.name, dataclasses.replace(checkpoint, qzoom=finished), task.parameters)


def train_gate(run: StageRun, on_step: OnStep = lambda _: None) -> None:
    """`qzoom train gate`.

    Raises:
        InvalidRequest: If model, recipe, labels and data do not fit, before any work.
    """
    device, dtype = run.machine.prepare()
    plan, recipe = run.recipe.gate, run.recipe
    checkpoint = open_for_stage(run.model, recipe)
    settings = recipe.gate_labels
    data, about = read_gate_data(run.labels, checkpoint, settings, plan.seed, run.data)
    branch = GateBranch(checkpoint, device=device, seed=plan.seed, recompute=plan.recompute)
    frozen = FrozenLower.load(
        without_branches(checkpoint), device=device, dtype=dtype, suffix=recipe.suffix
    )
    task = GateTask(branch, frozen, data, settings, seed=plan.seed, cache_mb=plan.cache_mb)
    about |= {"gate_labels": settings.model_dump()}
    train(task, plan, run.out, about=about, device=device, resume=run.resume, on_step=on_step)
    finished = dataclasses.replace(checkpoint.qzoom, has_gate=True)
    _finish(run, task.name, dataclasses.replace(checkpoint, qzoom=finished), task.parameters)


def train_post_sft(run: StageRun, on_step: OnStep = lambda _: None) -> None:
    """`qzoom train post-sft`.

    Raises:
        InvalidRequest: If model, recipe, labels and data do not fit, before any work.
    """
    device, dtype = run.machine.prepare()
    plan, recipe = run.recipe.post_sft, run.recipe
    checkpoint = open_for_stage(run.model, recipe)
    samples, about = read_hard_samples(run.labels, checkpoint, plan, run.data)
    task = PostSftTask(checkpoint, samples, plan, suffix=recipe.suffix, device=device, dtype=dtype)
    train(task, plan, run.out, about=about, device=device, resume=run.resume, on_step=on_step)
    _finish(run, task.name, checkpoint, task.parameters)


def without_branches(checkpoint: Checkpoint) -> Checkpoint:
    """The same base with neither gate nor RPN."""
    qzoom = dataclasses.replace(checkpoint.qzoom, has_gate=False, has_rpn=False)
    return dataclasses.replace(checkpoint, qzoom=qzoom)


def _finish(
    run: StageRun, stage: str, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]
) -> None:
    """Leave the part and the recipe that made it."""
    workers = Workers()
    if workers.is_first:
        write_part(run.out / "part", stage, checkpoint, tensors)
        recipe = run.recipe.model_dump_json(indent=2)
        write_whole(run.out / "part" / "recipe.json", recipe.encode() + b"\n")
    workers.wait()
