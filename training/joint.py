"""Train base, RPN and gate together: where to look, learnt from the first layers on.

Answers alone teach a small model late which item a question names. Here the RPN's map of the true
evidence and the gate's label are auxiliary losses of the base, through layers 1..B.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from training.base import BaseTrainer
from training.batch import collate
from training.branches import Gate, Rpn, SplitStates, describe
from training.checkpoint import load_state, save_state
from training.layout import IGNORE
from training.modes import Mode, Sample
from training.optim import build_optimizers
from training.pointing import Pointers
from training.recipe import Phase, Recipe
from training.rpn import cell_labels

RPN_WEIGHT = 4.0
GATE_WEIGHT = 0.5
POINTING_WEIGHT = 0.5
POINTING_LAYERS = (3, 4)
"""Layers, from 1, whose attention learns to point; below the split, so the branches profit."""


class JointTrainer(BaseTrainer):
    """`BaseTrainer` whose layout "ask" also trains the branches.

    Args:
        recipe: What to train and how.
        run: Run folder; states go to base/, rpn/ and gate/ as from the separate stages.
    """

    def __init__(self, recipe: Recipe, run: Path) -> None:
        super().__init__(recipe, run / "base")
        self.run_folder = run
        self.rpn = Rpn(self.model, recipe.split_layer, recipe.branch_depth)
        self.gate = Gate(self.model, recipe.split_layer, recipe.branch_depth)
        modules = [self.model, self.aux, self.rpn, self.gate]
        self.optimizers = build_optimizers(modules, self.plan.weight_decay)

    def start_from(self, run: Path) -> None:
        """Take the weights of another run's stages; optimizers and schedule start anew."""
        base = load_state(run / "base")
        if base is None:
            raise ValueError(f"{run / 'base'} holds no checkpoint")
        self.model.load_state_dict(base["model"])
        self.aux.load_state_dict(base["aux"])
        self.step = base["step"]
        self.rpn = Rpn(self.model, self.recipe.split_layer, self.recipe.branch_depth)
        self.gate = Gate(self.model, self.recipe.split_layer, self.recipe.branch_depth)
        for name, branch in (("rpn", self.rpn), ("gate", self.gate)):
            state = load_state(run / name)
            if state is not None:
                branch.load_state_dict(state["branch"])
        modules = [self.model, self.aux, self.rpn, self.gate]
        self.optimizers = build_optimizers(modules, self.plan.weight_decay)

    def resume(self) -> bool:
        """Go on from the run's checkpoints; False if there are none."""
        for name, branch in (("rpn", self.rpn), ("gate", self.gate)):
            state = load_state(self.run_folder / name)
            if state is None:
                return False
            branch.load_state_dict(state["branch"])
        return super().resume()

    def save(self) -> None:
        """Write the checkpoints of base and branches."""
        for name, branch in (("rpn", self.rpn), ("gate", self.gate)):
            save_state(self.run_folder / name, {"branch": branch.state_dict()})
        super().save()

    def train_step(self, mode: Mode, phase: Phase) -> float:
        """One optimizer step; direct layouts also learn to point, "ask" trains the branches too."""
        if mode == "zoom":
            return super().train_step(mode, phase)
        samples = self._samples(mode, 0, self.plan.batch[mode])
        # Pictures behind a system turn start elsewhere: one start per batch.
        start = samples[0].tree.image_start
        samples = [sample for sample in samples if sample.tree.image_start == start]
        batch = collate(samples, self.prompts, self.window_cells)
        visual = [self.forward.visual_tokens(group) for group in batch.vision]
        packed = torch.cat(visual)
        loss = torch.zeros(())
        for tokens, group in zip(visual, batch.vision, strict=True):
            weight = phase.aux_weight * len(tokens) / len(packed)
            loss = loss + weight * cast(Tensor, self.aux(tokens, group.aux))
        text, split = self.forward.text, self.recipe.split_layer
        rope = text.rope(batch.positions)
        x, pointers = self.forward.embed(batch, packed), Pointers(batch)
        for number in range(1, split + 1):
            if number in POINTING_LAYERS:
                query, key = text.query_key(text.text.layers[number - 1], x, rope)
                loss = loss + POINTING_WEIGHT * pointers.loss(query, key)
            x = text.layers(x, rope, batch.mask, number, number)
        if mode == "ask":
            loss = loss + self._branch_loss(describe(batch, x, rope))
        labels = self._answerable(batch.labels, samples) if mode == "ask" else batch.labels
        chosen = labels != IGNORE
        x = text.layers(x, rope, batch.mask, split + 1, len(text.text.layers))
        loss = loss + F.cross_entropy(text.logits(x[chosen]), labels[chosen])
        return self.update(loss, mode)

    def _branch_loss(self, states: SplitStates) -> Tensor:
        map_labels, valid = cell_labels(states)
        heat = self.rpn.logits(self.forward, states)
        map_loss = F.binary_cross_entropy_with_logits(heat[valid], map_labels[valid])
        needs = torch.tensor([float(q.needs_detail) for q in states.questions])
        refine = self.gate.logits(self.forward, states)
        gate_loss = F.binary_cross_entropy_with_logits(refine, needs)
        return RPN_WEIGHT * map_loss + GATE_WEIGHT * gate_loss

    @staticmethod
    def _answerable(labels: Tensor, samples: Sequence[Sample]) -> Tensor:
        """Labels without the answers that the coarse picture cannot show."""
        labels = labels.clone()
        for row, sample in enumerate(samples):
            at = 0
            for index, segment in enumerate(sample.tree.segments):
                question = sample.asked.get(index)
                if question is not None and question.needs_detail:
                    labels[row, at : at + len(segment.ids)] = IGNORE
                at += len(segment.ids)
        return labels
