"""Train the gate on consistent answers (III-B): binary cross-entropy on the last query token."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from qzoom.data.record import Record
from qzoom.model.loading import Checkpoint
from training.labels.gate import (
    KIND,
    GateRule,
    Trajectory,
    choose_trajectories,
    draw,
    read_trajectories,
)
from training.stages.branches import GateBranch
from training.stages.joining import group_by_picture, join, open_labels
from training.stages.recipe import GateLabels
from training.stages.setup import base_revision
from training.stages.states import FrozenLower, PackedStates, StateStore


@dataclass(frozen=True, slots=True)
class GateBatch:
    """Some questions at one resolution each.

    Attributes:
        states: After layer B; None where nothing was drawn.
        labels: [Q] in {0, 1}, in the order of the packed questions.
    """

    states: PackedStates | None
    labels: Tensor


@dataclass(frozen=True, slots=True)
class GateData:
    """Questions with their trajectories, by picture.

    Attributes:
        groups: All questions of each picture.
        samples: (picture, number of the question in it, trajectory).
        budgets: The resolutions in visual tokens.
    """

    groups: list[list[Record]]
    samples: list[tuple[int, int, Trajectory]]
    budgets: list[int]


def read_gate_data(
    folders: Sequence[Path],
    checkpoint: Checkpoint,
    settings: GateLabels,
    seed: int,
    data: str | None = None,
) -> tuple[GateData, dict[str, Any]]:
    """Join label folders with their records, and keep what the rule learns from.

    Raises:
        InvalidRequest: If model, labels, recipe and data do not fit, naming the field and values.
    """
    revision = base_revision(checkpoint)
    found: dict[str, tuple[Record, Trajectory]] = {}
    about = []
    for path in folders:
        wanted = {"kind": KIND, "base_revision": revision, "budgets": settings.budgets}
        folder = open_labels(path, wanted)
        for record, trajectory in join(folder, read_trajectories(folder), data):
            found[f"{path}:{trajectory.id}"] = (record, trajectory)
        about.append({k: folder.job[k] for k in ("data", "budgets", "suffix")})
    kept = choose_trajectories(
        [t for _, t in found.values()], settings.rule, settings.max_easy_ratio, seed
    )
    chosen = {id(t) for t in kept}
    groups, samples = group_by_picture(pair for pair in found.values() if id(pair[1]) in chosen)
    counted = {"labels": about, "base_revision": revision, "questions": len(found)}
    return GateData(groups, samples, settings.budgets), counted


class GateTask:
    """See `training.stages.loop.Task`.

    Args:
        branch: What is trained.
        frozen: Everything below it.
        data: The samples.
        settings: Rule, and which resolutions may be drawn.
        seed: Of the draws.
        cache_mb: Memory for states.
    """

    name = "gate"

    def __init__(
        self,
        branch: GateBranch,
        frozen: FrozenLower,
        data: GateData,
        settings: GateLabels,
        *,
        seed: int,
        cache_mb: int,
    ) -> None:
        self.branch, self._data, self._seed = branch, data, seed
        self.parameters = branch.canonical()
        self.pictures = [picture for picture, _, _ in data.samples]
        self._rule: GateRule = settings.rule
        self._allowed = [data.budgets.index(b) for b in settings.draw_budgets or []]
        self._store = StateStore(frozen, data.groups, cache_mb * 2**20)
        self._frozen = frozen

    def prepare(self, numbers: Sequence[int], step: int) -> GateBatch:
        """Draw a resolution for each sample and gather the states."""
        by_view: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for number in numbers:
            picture, question, trajectory = self._data.samples[number]
            random = np.random.default_rng((self._seed, step, number))
            pair = draw(trajectory, self._rule, random, self._allowed)
            if pair is not None:
                by_view.setdefault((picture, pair.budget), []).append((question, pair.label))
        chosen, labels = [], []
        for (picture, budget), asked in by_view.items():
            states = self._store.get(picture, self._data.budgets[budget])
            chosen.append((states, [question for question, _ in asked]))
            labels += [float(label) for _, label in asked]
        packed = self._frozen.pack(chosen) if chosen else None
        return GateBatch(packed, torch.tensor(labels, device=self._frozen.device))

    def weight(self, prepared: GateBatch) -> float:
        """Questions."""
        return float(len(prepared.labels))

    def loss(self, prepared: GateBatch) -> Tensor:
        """Binary cross-entropy, summed over questions."""
        if prepared.states is None:
            return torch.zeros(())
        logits = self.branch(prepared.states)
        return functional.binary_cross_entropy_with_logits(logits, prepared.labels, reduction="sum")
