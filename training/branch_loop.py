"""The loop that trains a branch: fresh pictures, frozen base, decay to zero, resumable."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from qzoom.data.splits import Split, scene_seed
from training.batch import Forward, collate
from training.branches import Branch, SplitStates, split_states
from training.checkpoint import load_state, save_state
from training.clock import Clock
from training.layout import Prompts
from training.model_config import base_config, new_model
from training.modes import make_sample
from training.optim import build_optimizers, set_lr
from training.pixels import CELL
from training.recipe import BranchRecipe, Recipe
from training.tokenizer import build_tokenizer

logger = logging.getLogger(__name__)

LOG_EVERY_STEPS = 20
WARMUP_STEPS = 30
CHECKPOINT_S = 60.0
FIRST_INDEX = {"rpn": 1 << 36, "gate": 1 << 37}
"""First picture of each stage in the training split: none that the base has seen."""


def load_base(recipe: Recipe, base: Path) -> tuple[Forward, Prompts]:
    """Open the trained base of a run, frozen.

    Raises:
        ValueError: If the folder holds no checkpoint.
    """
    state = load_state(base)
    if state is None:
        raise ValueError(f"{base} holds no base checkpoint; run `qzoom train base` first")
    tokenizer = build_tokenizer()
    model = new_model(base_config(recipe.size, tokenizer), recipe.seed)
    model.load_state_dict(state["model"])
    model.train(False)
    model.requires_grad_(False)
    return Forward(model), Prompts(tokenizer)


class BranchTrainer(ABC):
    """Common part of `qzoom train rpn` and `qzoom train gate`.

    Args:
        recipe: What to train and how.
        base: Folder of the trained base.
        out: Folder of the branch's checkpoint.
    """

    name: str

    def __init__(self, recipe: Recipe, base: Path, out: Path) -> None:
        torch.set_num_threads(recipe.threads)
        torch.manual_seed(recipe.seed)
        self.recipe, self.out = recipe, out
        self.plan: BranchRecipe = getattr(recipe, self.name)
        self.forward, self.prompts = load_base(recipe, base)
        self.branch = self.build()
        self.optimizers = build_optimizers([self.branch], weight_decay=0.01)
        self.step, self.spent_s = 0, 0.0

    @abstractmethod
    def build(self) -> Branch:
        """A fresh branch."""

    @abstractmethod
    def loss(self, states: SplitStates) -> Tensor:
        """Loss of a batch."""

    @abstractmethod
    def measure(self, states: SplitStates) -> dict[str, tuple[float, int]]:
        """Figures of a batch: name -> (sum, count)."""

    def states(self, split: Split, first: int, count: int, plain: bool) -> SplitStates:
        """States after layer B of `count` pictures."""
        budgets = self.recipe.budgets
        samples = [
            make_sample(scene_seed(split, first + i), "ask", self.prompts, budgets, plain)
            for i in range(count)
        ]
        # Samples with a system turn have their image elsewhere: keep the larger part.
        start = samples[0].tree.image_start
        samples = [s for s in samples if s.tree.image_start == start]
        batch = collate(samples, self.prompts, self.recipe.size.window_px // CELL)
        return split_states(self.forward, batch, self.recipe.split_layer)

    def resume(self) -> bool:
        """Go on from the checkpoint in `out`; False if there is none."""
        state = load_state(self.out)
        if state is None:
            return False
        self.branch.load_state_dict(state["branch"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.spent_s = state["step"], state["elapsed_s"]
        return True

    def run(self) -> dict[str, float]:
        """Train to the end of the schedule; returns the figures on validation pictures."""
        train_branches([self])
        return self.validate()

    def train_step(self, states: SplitStates, progress: float) -> float:
        """One optimizer step on a batch of states; returns the loss."""
        warmup = min(1.0, (self.step + 1) / WARMUP_STEPS)
        set_lr(self.optimizers, self.plan.lr * (1 - progress) * warmup)
        loss = self.loss(states)
        torch.autograd.backward(loss)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()

    @torch.no_grad()
    def validate(self, pictures: int = 240) -> dict[str, float]:
        """Figures on validation pictures."""
        sums: dict[str, list[float]] = {}
        for first in range(0, pictures, 24):
            states = self.states("val", (1 << 30) + first, 24, plain=True)
            for name, (value, count) in self.measure(states).items():
                total = sums.setdefault(name, [0.0, 0.0])
                total[0] += value
                total[1] += count
        figures = {name: value / count for name, (value, count) in sums.items() if count}
        counts = {name: int(count) for name, (_, count) in sums.items()}
        logger.info("%s validation %s n %s", self.name, figures, counts)
        return figures

    def save(self, elapsed_s: float) -> None:
        """Write the checkpoint."""
        state = {
            "branch": self.branch.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "elapsed_s": elapsed_s,
        }
        save_state(self.out, state)


def train_branches(trainers: Sequence[BranchTrainer]) -> None:
    """Train branches of one base side by side, on the same states: the first one's schedule.

    Args:
        trainers: At least one; all with the same recipe and base.
    """
    lead = trainers[0]
    by_steps = Clock("steps", lead.plan.steps)
    by_time = Clock("wall", lead.plan.max_minutes * 60, lead.spent_s)
    last_saved = time.monotonic()
    losses = [0.0] * len(trainers)
    while (progress := max(by_steps.progress(lead.step), by_time.progress(lead.step))) < 1:
        first = FIRST_INDEX[lead.name] + lead.step * lead.plan.batch
        states = lead.states("train", first, lead.plan.batch, plain=False)
        for index, trainer in enumerate(trainers):
            losses[index] += trainer.train_step(states, progress) / LOG_EVERY_STEPS
        if lead.step % LOG_EVERY_STEPS == 0:
            shown = " ".join(f"{t.name} {v:.4f}" for t, v in zip(trainers, losses, strict=True))
            left = by_time.elapsed_s * (1 / max(progress, 1e-6) - 1) / 60
            logger.info("step %d loss %s, %.1f min left", lead.step, shown, left)
            losses = [0.0] * len(trainers)
        if time.monotonic() - last_saved > CHECKPOINT_S:
            for trainer in trainers:
                trainer.save(by_time.elapsed_s)
            last_saved = time.monotonic()
    for trainer in trainers:
        trainer.save(by_time.elapsed_s)
