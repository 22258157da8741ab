"""Training samples: one picture, many questions, in one of the layouts that serving knows.

item    one item shown natively (about 9 visual tokens)     direct
small   1-4 items shown natively (at most 36 tokens)        direct
coarse  a full scene under the coarse budget                direct
zoom    the same, with crops on the coarse grid             zoom
half    a full scene at a budget between coarse and native  direct
full    a full scene at native size                         direct
page    characters only, for the vision tower alone         none (training/pages.py)
"""

import random
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qzoom.data.phrasing import PREFIXES, SUFFIXES
from qzoom.data.questions import LOOKING, Kind, Question, sample_question
from qzoom.data.render import render
from qzoom.data.scene import Item, Scene, sample_scene, sample_small_scene
from training.aux import AuxLabels, aux_labels
from training.boxes import contains, evidence_cells, proposed_cells, random_cells, to_pixels
from training.layout import Prompts, Tree
from training.pixels import CELL, Grid, patches, token_grid

Mode = Literal["item", "small", "coarse", "zoom", "half", "full", "page"]

HALF_TOKENS = (49, 64, 81, 100, 121, 144, 169, 196, 225)
"""Budgets of the layout "half"."""

READABLE_PX = 7.0
"""Smallest print, in pixels of the encoded picture, that answers are asked for."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """Limits in visual tokens; serving uses the same (config.json, key `qzoom`)."""

    min_tokens: int = 4
    max_tokens: int = 36
    roi_min_tokens: int = 4
    roi_max_tokens: int = 36
    full_max_tokens: int = 324


@dataclass(frozen=True, slots=True)
class View:
    """One encoded picture: the source or a crop."""

    grid: Grid
    patches: NDArray[np.float32]
    aux: AuxLabels


@dataclass(slots=True)
class Sample:
    """A packed sample before batching."""

    tree: Tree
    views: list[View]
    scene: Scene
    image: Image.Image
    asked: dict[int, Question]
    """Question of each segment that holds one."""
    pointers: dict[int, int] = field(default_factory=dict)
    """Last token of the words that name the evidence, within the segment."""

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height) of the source picture."""
        return self.scene.width, self.scene.height


def make_view(
    scene: Scene, image: Image.Image, view_px: tuple[float, float, float, float], grid: Grid
) -> View:
    """Encode a picture that shows the part `view_px` of a scene."""
    return View(grid, patches(image, grid), aux_labels(scene, view_px, grid))


def make_sample(seed: int, mode: Mode, prompts: Prompts, budgets: Budgets, plain: bool) -> Sample:
    """Draw a picture and pack questions about it.

    Args:
        seed: Decides everything.
        mode: Layout.
        prompts: Token ids of the chat template.
        budgets: Visual token limits.
        plain: Only plain single-turn questions with true boxes (measuring), no augmentation.
    """
    return _Builder(seed, mode, prompts, budgets, plain).build()


class _Builder:
    def __init__(
        self, seed: int, mode: Mode, prompts: Prompts, budgets: Budgets, plain: bool
    ) -> None:
        self.rng = random.Random(seed * 31 + 7)
        self.mode, self.budgets, self.plain = mode, budgets, plain
        self.scene = self._scene(seed)
        self.image = render(self.scene)
        self.tree = Tree(prompts)
        self.views: list[View] = []
        self.asked: dict[int, Question] = {}
        self.pointers: dict[int, int] = {}
        self.zoom_out = 1.0
        """Pixels of the encoded picture per pixel of the source."""

    def build(self) -> Sample:
        limit = self.budgets.max_tokens
        if self.mode in ("half", "full"):
            full = self.mode == "full"
            limit = self.budgets.full_max_tokens if full else self.rng.choice(HALF_TOKENS)
        size = (self.scene.width, self.scene.height)
        grid = token_grid(*size, self.budgets.min_tokens, limit)
        self.views.append(make_view(self.scene, self.image, (0, 0, *size), grid))
        self.zoom_out = grid[0] * CELL / self.scene.height
        root = self.tree.add_image(grid, not self.plain and self.rng.random() < 0.1)
        if self.mode == "zoom":
            for item in self.rng.sample(self.scene.items, min(3, len(self.scene.items))):
                self._add_zoom(root, item, grid)
        else:
            self._add_direct(root)
        return Sample(self.tree, self.views, self.scene, self.image, self.asked, self.pointers)

    def _scene(self, seed: int) -> Scene:
        if self.mode == "item":
            return sample_small_scene(seed, self.rng.choice((84, 98, 112)), 1)
        if self.mode == "small":
            return sample_small_scene(seed, 168, self.rng.randint(1, 4))
        return sample_scene(seed)

    def _add_direct(self, root: int) -> None:
        """Every answerable code question kind and a few about looks."""
        items = [i for i in self.scene.items if self._can_read(i)]
        self.rng.shuffle(items)
        parent = root
        num_codes = {"item": 2, "small": 2, "coarse": 3}.get(self.mode, 5)
        for item in (items * 2)[:num_codes]:
            parent = self._ask(root, parent, "code", item)
        kinds: list[Kind] = list(LOOKING)
        self.rng.shuffle(kinds)
        asked: list[Kind] = ["which"] if self.mode != "item" else []
        for kind in asked + kinds[: 2 if len(items) < 2 else 4]:
            parent = self._ask(root, parent, kind, None)

    def _add_zoom(self, root: int, item: Item, grid: Grid) -> None:
        size = (self.scene.width, self.scene.height)
        truth = evidence_cells(item.evidence_px, size, grid)
        cells = truth if self.plain else proposed_cells(self.rng, truth, grid)
        if not self.plain and self.rng.random() < 0.05:
            cells = random_cells(self.rng, grid)
        crop = to_pixels(cells, size, grid)
        roi = token_grid(
            crop[2] - crop[0], crop[3] - crop[1],
            self.budgets.roi_min_tokens, self.budgets.roi_max_tokens,
        )  # fmt: skip
        self.views.append(make_view(self.scene, self.image.crop(crop), crop, roi))
        block = self.tree.add_roi(root, roi, cells)
        seen = contains(crop, item.code_px)
        parent = block
        if seen or not item.is_small:
            parent = self._ask(block, parent, "code", item)
            if not self.plain and self.rng.random() < 0.3:
                parent = self._ask(block, parent, "code", item)
        if self.rng.random() < 0.5:
            small = [i for i in self.scene.items if i.is_small]
            if not small or (item is small[0] and seen):
                parent = self._ask(block, parent, "which", item)
        if self.rng.random() < 0.6:
            self._ask(block, parent, self.rng.choice(LOOKING), None)

    def _ask(self, block: int, previous: int, kind: Kind, item: Item | None) -> int:
        """Add a question; returns the segment that a next turn could follow."""
        question = sample_question(self.rng, self.scene, kind, item)
        if question is None or not self._is_answerable(question):
            return previous
        follow_up = previous != block and not self.plain and self.rng.random() < 0.08
        text = question.text if self.plain else self._reworded(question.text)
        segment = self.tree.add_question(previous if follow_up else block, text, question.answer)
        self.asked[segment] = question
        if question.reference and self.mode != "zoom":
            end = text.index(question.reference) + len(question.reference)
            prompts, ids = self.tree.prompts, self.tree.segments[segment].ids
            tail = len(prompts.encode(text)) + len(prompts.ask_answer) + 1
            lead = len(ids) - tail - len(prompts.encode(question.answer))
            self.pointers[segment] = lead + len(prompts.encode(text[:end])) - 1
        return segment

    def _can_read(self, item: Item) -> bool:
        if self.mode == "half":
            return item.font_px * self.zoom_out >= READABLE_PX
        return self.mode != "coarse" or not item.is_small

    def _is_answerable(self, question: Question) -> bool:
        if self.mode == "half" and question.needs_detail:
            return all(self._can_read(item) for item in self.scene.items)
        return self.mode != "coarse" or not question.needs_detail

    def _reworded(self, text: str) -> str:
        """People leave out question marks, greet, and evaluators append instructions."""
        if self.rng.random() < 0.2:
            text = text.rstrip("?.")
        if self.rng.random() < 0.06:
            text = f"{self.rng.choice(PREFIXES)}{self.rng.choice((',', ':', ''))} {text}"
        if self.rng.random() < 0.06:
            text += self.rng.choice(SUFFIXES)
        return text
