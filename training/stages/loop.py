"""The loop that trains any stage: order, batches, accumulation, schedule, checkpoints, curve.

Nothing is random but the order of the samples, which follows from seed and epoch, and what a task
draws, which follows from seed and step. So a run that was killed goes on along the same curve.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from qzoom.errors import InvalidRequest
from training.labels.shards import write_whole
from training.stages.checkpoints import TrainingState, load_checkpoint, save_checkpoint
from training.stages.curve import Curve, draw_curve
from training.stages.recipe import Optimisation
from training.stages.workers import Workers

P = TypeVar("P")


class Task(Protocol[P]):
    """A stage: what is trained, on which samples."""

    @property
    def name(self) -> str:
        """Of the stage."""
        ...

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All that is trained, by canonical name; nothing else is in the optimizer."""
        ...

    @property
    def pictures(self) -> Sequence[int]:
        """Picture of each sample; samples of one picture are run together."""
        ...

    def prepare(self, numbers: Sequence[int], step: int) -> P:
        """Gather some samples: all that needs no gradient."""
        ...

    def weight(self, prepared: P) -> float:
        """How many terms the loss has; the loss of a batch is a mean over all its terms."""
        ...

    def loss(self, prepared: P) -> Tensor:
        """Sum of the terms."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """One step that was done.

    Attributes:
        step: Steps done.
        steps: In all.
        loss: Of the step.
        samples: Samples a second so far in this process.
        eta_s: Seconds that remain at this pace.
    """

    step: int
    steps: int
    loss: float
    samples: float
    eta_s: float


def num_steps(plan: Optimisation, samples: int) -> int:
    """Length of a run."""
    return plan.steps or max(1, round(plan.epochs * samples / plan.batch))


def learning_rate(plan: Optimisation, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero; `step` counts from 0."""
    warmup = plan.warmup_ratio * steps
    if step + 1 < warmup:
        return plan.lr * (step + 1) / warmup
    progress = (step + 1 - warmup) / max(1.0, steps - warmup)
    return plan.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class Order:
    """Which samples make which step.

    Pictures are shuffled in every epoch; the questions of a picture stay neighbours, so that they
    share its computation. Every step has exactly `batch` samples.

    Args:
        pictures: Picture of each sample.
        batch: Samples a step.
        seed: Of the shuffling.
    """

    def __init__(self, pictures: Sequence[int], batch: int, seed: int) -> None:
        by_picture: dict[int, list[int]] = {}
        for number, picture in enumerate(pictures):
            by_picture.setdefault(picture, []).append(number)
        self._groups = list(by_picture.values())
        self._count, self._batch, self._seed = len(pictures), batch, seed
        self._epochs: dict[int, list[int]] = {}

    def step(self, step: int) -> list[int]:
        """Numbers of the samples of a step."""
        start = step * self._batch
        found: list[int] = []
        while len(found) < self._batch:
            epoch, at = divmod(start + len(found), self._count)
            found += self._epoch(epoch)[at : at + self._batch - len(found)]
        return found

    def _epoch(self, epoch: int) -> list[int]:
        if epoch not in self._epochs:
            draw = np.random.default_rng((self._seed, epoch))
            order = draw.permutation(len(self._groups))
            numbers = [n for g in order for n in draw.permutation(self._groups[g]).tolist()]
            latest = sorted(self._epochs)[-1:]
            self._epochs = {e: self._epochs[e] for e in latest} | {epoch: numbers}
        return self._epochs[epoch]


def train(
    task: Task[Any],
    plan: Optimisation,
    folder: Path,
    *,
    about: Mapping[str, Any],
    device: torch.device,
    resume: bool,
    on_step: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Train a stage to its end.

    Args:
        task: The stage.
        plan: How.
        folder: Of the run: recipe, checkpoints, curve.
        about: What else identifies the run (base revision, labels, ...).
        device: Where parameters live.
        resume: Go on from the latest checkpoint, if there is one.
        on_step: Told after every step.

    Raises:
        InvalidRequest: If there are no samples, or the folder holds another run.
    """
    if not task.pictures:
        raise InvalidRequest(f"stage {task.name} has no samples to train on")
    workers = Workers()
    steps = num_steps(plan, len(task.pictures))
    parameters = list(task.parameters.values())
    optimizer = torch.optim.AdamW(
        parameters, lr=plan.lr, betas=(plan.beta1, plan.beta2), weight_decay=plan.weight_decay
    )
    run = {**about, "stage": task.name, "steps": steps, "samples": len(task.pictures)}
    run |= {f"plan.{k}": v for k, v in plan.model_dump().items() if k not in _MAY_CHANGE}
    folder.mkdir(parents=True, exist_ok=True)
    state = load_checkpoint(folder, run, task.parameters, optimizer) if resume else None
    if state is None and not resume and list(folder.glob("step-????????")):
        raise InvalidRequest(f"{folder} holds a run; --resume goes on with it")
    state = state or TrainingState(0, 0.0, run)
    if workers.is_first:
        write_whole(folder / "run.json", json.dumps(run, indent=2, sort_keys=True).encode())
    curve = Curve(folder, state.step) if workers.is_first else None
    order = Order(task.pictures, plan.batch, plan.seed)
    began = last_saved = time.monotonic()

    def save(step: int) -> None:
        if workers.is_first:
            spent = state.spent_s + time.monotonic() - began
            save_checkpoint(folder, TrainingState(step, spent, run), task.parameters, optimizer)
        workers.wait()

    for step in range(state.step, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(plan, step, steps)
        loss, norm = _step(task, plan, order.step(step), step, workers, device)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if curve is not None:
            curve.add(step + 1, loss, optimizer.param_groups[0]["lr"], norm, plan.batch)
        spent = time.monotonic() - began
        done = step + 1 - state.step
        rate = done * plan.batch / max(spent, 1e-9)
        on_step(Progress(step + 1, steps, loss, rate, spent / done * (steps - step - 1)))
        [due] = workers.total(
            float(workers.is_first and time.monotonic() - last_saved > 60 * plan.checkpoint_minutes)
        )
        if due and step + 1 < steps:
            save(step + 1)
            last_saved = time.monotonic()
    save(steps)
    if curve is not None:
        curve.close()
        draw_curve(folder, f"{task.name}, {steps} steps of {plan.batch}")


_MAY_CHANGE = {"micro_batch", "recompute", "cache_mb", "checkpoint_minutes"}
"""Settings that change the cost of a run, not its result."""


def _step(
    task: Task[Any],
    plan: Optimisation,
    numbers: Sequence[int],
    step: int,
    workers: Workers,
    device: torch.device,
) -> tuple[float, float]:
    """Gradients of one batch: (loss, norm of the gradient before it is clipped)."""
    mine = workers.share(numbers)
    chunks = [mine[i : i + plan.micro_batch] for i in range(0, len(mine), plan.micro_batch)]
    prepared = [task.prepare(chunk, step) for chunk in chunks]
    [weight] = workers.total(sum(task.weight(part) for part in prepared))
    total = 0.0
    for part in prepared:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=plan.bf16):
            loss = task.loss(part)
        if loss.requires_grad and weight > 0:
            torch.autograd.backward(loss / weight)
        total += float(loss.detach()) / max(weight, 1e-9)
    parameters = list(task.parameters.values())
    workers.add_gradients(parameters)
    norm = nn.utils.clip_grad_norm_(parameters, plan.clip)
    [total] = workers.total(total)
    return total, float(norm)
