"""Train the base model: curriculum of layouts, auxiliary vision supervision, decay to zero."""

import csv
import dataclasses
import json
import logging
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from qzoom.data.splits import scene_seed
from training.aux import AuxHead
from training.batch import Batch, Forward, VisionBatch, batch_views, collate
from training.checkpoint import load_state, save_state
from training.clock import Clock
from training.layout import IGNORE, Prompts
from training.measure import group_rates, validate
from training.model_config import base_config, new_model
from training.modes import Mode, Sample, make_sample
from training.optim import build_optimizers, set_lr
from training.pages import page_view
from training.pixels import CELL
from training.pointing import Pointers
from training.recipe import BaseRecipe, Phase, Recipe
from training.tokenizer import build_tokenizer

logger = logging.getLogger(__name__)

LOG_EVERY_STEPS = 20
PLACE_LAYER = 2
"""Layer, from 1, after which a visual token's state learns where in the picture it lies: rotary
positions tell only how far apart tokens are."""
POINTING_LAYERS = (3, 4)
"""Layers, from 1, whose attention learns to point; below the split, so the branches profit."""
POINTING_HEADS = 2
"""Heads of these layers that learn it; the others stay free."""
_SEEDS_PER_STEP = 1000


class BaseTrainer:
    """One run of `qzoom train base`.

    Args:
        recipe: What to train and how.
        out: Folder of checkpoint, logs and the recipe used.
    """

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.recipe, self.out = recipe, out
        self.plan: BaseRecipe = recipe.base
        torch.set_num_threads(recipe.threads)
        tokenizer = build_tokenizer()
        self.prompts = Prompts(tokenizer)
        self.model = new_model(base_config(recipe.size, tokenizer), recipe.seed)
        self.forward = Forward(self.model)
        self.aux = AuxHead(recipe.size.hidden_size, self.prompts.word)
        self.optimizers = build_optimizers([self.model, self.aux], self.plan.weight_decay)
        self.window_cells = recipe.size.window_px // CELL
        self.step = 0
        self.clock = self._clock(0.0)

    def _clock(self, spent_s: float) -> Clock:
        by_steps = self.plan.clock == "steps"
        limit = self.plan.steps if by_steps else self.plan.max_minutes * 60
        return Clock(self.plan.clock, limit, spent_s)

    def resume(self) -> bool:
        """Go on from the checkpoint in `out`; False if there is none."""
        state = load_state(self.out)
        if state is None:
            return False
        self.model.load_state_dict(state["model"])
        self.aux.load_state_dict(state["aux"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step = state["step"]
        self.clock = self._clock(state["elapsed_s"])
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "aux": self.aux.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "elapsed_s": self.clock.elapsed_s,
        }
        save_state(self.out, state)

    def run(self) -> None:
        """Train to the end of the schedule."""
        self.out.mkdir(parents=True, exist_ok=True)
        used = dataclasses.asdict(self.recipe)
        (self.out / "recipe.json").write_text(json.dumps(used, indent=2) + "\n")
        last_saved = last_validated = time.monotonic()
        losses: list[float] = []
        pictures, since = 0, time.monotonic()
        while (progress := self.clock.progress(self.step)) < 1:
            phase, lr = self._schedule(progress)
            mode = self._choose_mode(phase)
            set_lr(self.optimizers, lr)
            losses.append(self.train_step(mode, phase))
            pictures += self.plan.batch.get(mode, phase.pages)
            self.step += 1
            if self.step % LOG_EVERY_STEPS == 0:
                rate = pictures / (time.monotonic() - since)
                self._log(phase, lr, sum(losses) / len(losses), rate)
                losses, pictures, since = [], 0, time.monotonic()
            if time.monotonic() - last_saved > self.plan.checkpoint_s:
                self.save()
                last_saved = time.monotonic()
            if phase.answers and time.monotonic() - last_validated > self.plan.validate_s:
                self.report()
                last_validated = time.monotonic()
        self.save()
        self.report()

    def train_step(self, mode: Mode, phase: Phase) -> float:
        """One optimizer step on fresh pictures of one mode; returns the loss."""
        if mode == "page":
            return self.update(phase.aux_weight * self._aux_loss([], [], phase), mode)
        samples = self._samples(mode, self.plan.batch[mode])
        batch = collate(samples, self.prompts, self.window_cells)
        visual = [self.forward.visual_tokens(group) for group in batch.vision]
        loss = torch.zeros(())
        if phase.aux_weight:
            loss = phase.aux_weight * self._aux_loss(batch.vision, visual, phase)
        if phase.answers:
            loss = loss + self._answer_loss(batch, torch.cat(visual), phase)
        return self.update(loss, mode)

    def _aux_loss(
        self, groups: Sequence[VisionBatch], visual: Sequence[Tensor], phase: Phase
    ) -> Tensor:
        """What do the visual tokens show? Mean over those of the samples and of extra pages."""
        seen = list(zip(visual, groups, strict=True))
        if phase.pages:
            first = scene_seed("train", self.step * _SEEDS_PER_STEP)
            views = [page_view(first + index) for index in range(phase.pages)]
            group = batch_views(views, self.window_cells)
            seen.append((self.forward.visual_tokens(group), group))
        total = sum(len(tokens) for tokens, _ in seen)
        words = self.model.get_input_embeddings().weight
        losses = [
            self.aux(tokens, group.aux, words, phase.order_weight) * (len(tokens) / total)
            for tokens, group in seen
        ]
        return torch.stack(losses).sum()

    def _answer_loss(self, batch: Batch, visual_VD: Tensor, phase: Phase) -> Tensor:
        """Cross-entropy of the answers; layers below the split also learn where things are."""
        text = self.forward.text
        rope, x = text.rope(batch.positions), self.forward.embed(batch, visual_VD)
        pointers = Pointers(batch) if phase.pointing_weight else None
        loss = torch.zeros(())
        for number in range(1, len(text.text.layers) + 1):
            if pointers is not None and number in POINTING_LAYERS:
                query, key = text.query_key(text.text.layers[number - 1], x, rope)
                aim = pointers.loss(query[:, :POINTING_HEADS], key)
                loss = loss + phase.pointing_weight * aim
            x = text.layers(x, rope, batch.mask, number, number)
            if number == PLACE_LAYER and phase.place_weight:
                known = batch.places != IGNORE
                place_loss = self.aux.place_loss(x[known], batch.places[known])
                loss = loss + phase.place_weight * place_loss
        chosen = batch.labels != IGNORE
        return loss + F.cross_entropy(text.logits(x[chosen]), batch.labels[chosen])

    def update(self, loss: Tensor, mode: Mode) -> float:
        """Step the optimizers; returns the loss.

        Raises:
            FloatingPointError: If the loss is not a number.
        """
        torch.autograd.backward(loss)
        value = loss.item()
        if value != value:  # noqa: PLR0124 -- NaN is the only number unequal to itself
            raise FloatingPointError(f"loss is NaN at step {self.step}, mode {mode}")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return value

    def _samples(self, mode: Mode, count: int) -> list[Sample]:
        """Fresh samples of this step."""
        start = self.step * _SEEDS_PER_STEP
        return [
            make_sample(
                scene_seed("train", start + i), mode, self.prompts, self.recipe.budgets, plain=False
            )
            for i in range(count)
        ]

    def report(self) -> None:
        """Validate every mode and log exact match by group."""
        modes: list[Mode] = ["item", "small", "coarse", "zoom", "half", "full"]
        results = validate(
            self.forward,
            modes,
            self.plan.validation_pictures,
            self.recipe.budgets,
            self.prompts,
            self.window_cells,
        )
        row: dict[str, float] = {}
        for mode, tally in results.items():
            rates = group_rates(tally)
            row |= {f"{mode}.{group}": rate for group, rate in rates.items()}
            kinds = {name: f"{hits}/{asked}" for name, (hits, asked) in sorted(tally.items())}
            logger.info(
                "validation %s %s %s", mode, {k: round(v, 3) for k, v in rates.items()}, kinds
            )
        self._append("validation.csv", {"step": self.step, "s": self.clock.elapsed_s, **row})

    def _schedule(self, progress: float) -> tuple[Phase, float]:
        start = 0.0
        for phase in self.plan.phases:
            if progress < start + phase.share or phase is self.plan.phases[-1]:
                break
            start += phase.share
        within = (progress - start) / phase.share
        lr = phase.lr_start + (phase.lr_end - phase.lr_start) * within
        return phase, lr * min(1.0, (self.step + 1) / self.plan.warmup_steps)

    def _choose_mode(self, phase: Phase) -> Mode:
        rng = random.Random((self.recipe.seed << 32) + self.step)
        (mode,) = rng.choices(list(phase.modes), weights=list(phase.modes.values()))
        return cast(Mode, mode)

    def _log(self, phase: Phase, lr: float, loss: float, rate: float) -> None:
        eta = self.clock.eta_s(self.step) / 60
        logger.info(
            "step %d %s loss %.4f lr %.2e %.1f pictures/s, %.1f min left",
            self.step, phase.name, loss, lr, rate, eta,
        )  # fmt: skip
        row = {"step": self.step, "s": self.clock.elapsed_s, "loss": loss, "lr": lr, "rate": rate}
        self._append("log.csv", row)

    def _append(self, name: str, row: dict[str, float]) -> None:
        path = self.out / name
        is_new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerow({k: round(v, 6) for k, v in row.items()})
