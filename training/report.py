"""Measure the trained stages together on pictures of the test split.

Every question is answered on both routes, so that one run tells what each stage is worth:
direct, zoom with the true box, zoom with the RPN's box, and auto (the gate decides).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from qzoom.data.dataset import example
from qzoom.data.questions import Question
from training.batch import Batch, Forward, collate
from training.boxes import contains, evidence_cells, to_pixels
from training.branch_loop import load_base
from training.branches import Gate, Rpn, SplitStates, split_states
from training.checkpoint import load_state
from training.layout import IGNORE, CellBox, Prompts
from training.modes import Sample
from training.packing import pack_direct, pack_zoom
from training.pixels import CELL
from training.recipe import Recipe
from training.rpn import propose

_PICTURES = 16
"""Pictures per batch."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to one question; the routes' fields say whether the answer was right."""

    question: Question
    zooms: bool
    """Did the gate ask for the zoom?"""
    direct: bool
    oracle: bool
    """Zoom with the true box; direct where the whole picture is the evidence."""
    zoom: bool
    """Zoom with the RPN's box; direct where it gave none."""
    centre_inside: bool
    """Is the evidence's centre inside the RPN's crop?"""
    area: float | None
    """Part of the picture that the RPN's crop covers; None without box."""
    num_tokens: int
    """Visual tokens under auto."""

    @property
    def auto(self) -> bool:
        """Right where the gate decides."""
        return self.zoom if self.zooms else self.direct


class Measurer:
    """All stages of a run, ready to answer.

    Args:
        recipe: The run's recipe.
        run: Folder with base/, rpn/ and gate/.
    """

    def __init__(self, recipe: Recipe, run: Path) -> None:
        torch.set_num_threads(recipe.threads)
        self.recipe = recipe
        self.forward: Forward
        self.prompts: Prompts
        self.forward, self.prompts = load_base(recipe, run / "base")
        depth = recipe.branch_depth
        self.rpn = Rpn(self.forward.model, recipe.split_layer, depth)
        self.gate = Gate(self.forward.model, recipe.split_layer, depth)
        for branch, name in ((self.rpn, "rpn"), (self.gate, "gate")):
            state = load_state(run / name)
            if state is None:
                raise ValueError(f"{run / name} holds no checkpoint; train it first")
            branch.load_state_dict(state["branch"])

    @torch.no_grad()
    def outcomes(self, seed: int, first: int, count: int) -> Iterator[Outcome]:
        """Answer the questions of test pictures first..first+count-1 on every route."""
        samples = [
            pack_direct(*example("test", seed, index), self.prompts, self.recipe.budgets)
            for index in range(first, first + count)
        ]
        states = split_states(self.forward, self._collate(samples), self.recipe.split_layer)
        p_refine = torch.sigmoid(self.gate.logits(self.forward, states)).tolist()
        heat = self.rpn.logits(self.forward, states)
        tau = self.recipe.tau_roi
        boxes = [propose(row, grid, tau) for row, grid in zip(heat, states.grids, strict=True)]
        truths = [
            None if q.evidence_px is None else evidence_cells(q.evidence_px, size, grid)
            for q, size, grid in zip(states.questions, states.sizes, states.grids, strict=True)
        ]
        direct = self._right(samples)
        zoomed, extra = self._zoomed(samples, states, boxes)
        oracle, _ = self._zoomed(samples, states, truths)
        for row, question in enumerate(states.questions):
            inside, area = self._look(question, boxes[row], states, row)
            zooms = p_refine[row] >= self.recipe.tau_gate
            coarse = states.grids[row][0] * states.grids[row][1]
            yield Outcome(
                question=question,
                zooms=zooms,
                direct=direct[row],
                oracle=oracle.get(row, direct[row]),
                zoom=zoomed.get(row, direct[row]),
                centre_inside=inside,
                area=area,
                num_tokens=coarse + (extra.get(row, 0) if zooms else 0),
            )

    def _collate(self, samples: Sequence[Sample]) -> Batch:
        return collate(samples, self.prompts, self.recipe.size.window_px // CELL)

    def _right(self, samples: Sequence[Sample]) -> list[bool]:
        """Is each question's greedy answer right? In the order of the samples."""
        batch = self._collate(samples)
        visual = torch.cat([self.forward.visual_tokens(group) for group in batch.vision])
        logits, labels = self.forward.answers(batch, visual)
        hits = (logits.argmax(-1) == labels).tolist()
        right, at = [], 0
        for sample in samples:
            for index in sorted(sample.asked):
                length = sum(label != IGNORE for label in sample.tree.segments[index].labels)
                right.append(all(hits[at : at + length]))
                at += length
        return right

    def _zoomed(
        self, samples: Sequence[Sample], states: SplitStates, boxes: Sequence[CellBox | None]
    ) -> tuple[dict[int, bool], dict[int, int]]:
        """Answers of the questions that have a box, and their RoI tokens, by question."""
        looks: dict[int, list[int]] = {}
        for row, (owner, box) in enumerate(zip(states.rows.tolist(), boxes, strict=True)):
            if box is not None:
                looks.setdefault(owner, []).append(row)
        right: dict[int, bool] = {}
        tokens: dict[int, int] = {}
        for owner, rows in looks.items():
            source = samples[owner]
            pairs = [(states.questions[r], box) for r in rows if (box := boxes[r]) is not None]
            packed = pack_zoom(source.scene, source.image, pairs, self.prompts, self.recipe.budgets)
            right |= zip(rows, self._right([packed]), strict=True)
            sizes = [view.grid[0] * view.grid[1] for view in packed.views[1:]]
            tokens |= zip(rows, sizes, strict=True)
        return right, tokens

    def _look(
        self, question: Question, cells: CellBox | None, states: SplitStates, row: int
    ) -> tuple[bool, float | None]:
        if cells is None:
            return False, None
        size, box = states.sizes[row], question.evidence_px
        crop = to_pixels(cells, size, states.grids[row])
        area = (crop[2] - crop[0]) * (crop[3] - crop[1]) / (size[0] * size[1])
        if box is None:
            return False, area
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        return contains(crop, (x, y, x, y)), area


def measure_run(recipe: Recipe, run: Path, pictures: int, seed: int) -> list[str]:
    """Measure a run, store the figures as JSON beside it, and return a readable table."""
    measurer = Measurer(recipe, run)
    outcomes: list[Outcome] = []
    for first in range(0, pictures, _PICTURES):
        outcomes += measurer.outcomes(seed, first, min(_PICTURES, pictures - first))
    figures = summarise(outcomes)
    stored = {"pictures": pictures, "seed": seed, "figures": figures}
    (run / "measure.json").write_text(json.dumps(stored, indent=2) + "\n")
    names = ("n", "direct", "oracle", "zoom", "auto", "gate_zooms", "centre", "area", "tokens")
    lines = [f"{'group':14}" + "".join(f"{name:>11}" for name in names)]
    for group, values in figures.items():
        lines.append(f"{group:14}" + "".join(f"{values[name]:>11.3f}" for name in names))
    return lines


def summarise(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Figures by group, by group and kind, and over all questions."""
    groups: dict[str, list[Outcome]] = {"all": list(outcomes)}
    for outcome in outcomes:
        question = outcome.question
        for name in (question.group, f"{question.group}/{question.kind}"):
            groups.setdefault(name, []).append(outcome)
    return {name: _figures(part) for name, part in sorted(groups.items())}


def _figures(part: Sequence[Outcome]) -> dict[str, float]:
    def rate(value: Callable[[Outcome], float]) -> float:
        return _mean(value(outcome) for outcome in part)

    return {
        "n": float(len(part)),
        "direct": rate(lambda o: o.direct),
        "oracle": rate(lambda o: o.oracle),
        "zoom": rate(lambda o: o.zoom),
        "auto": rate(lambda o: o.auto),
        "gate_zooms": rate(lambda o: o.zooms),
        "centre": rate(lambda o: o.centre_inside),
        "area": _mean(o.area for o in part if o.area is not None),
        "tokens": rate(lambda o: o.num_tokens),
    }


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
