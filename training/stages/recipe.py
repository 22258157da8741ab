"""Recipes of the stages that follow the base: typed YAML, unknown keys and wrong types refused.

A recipe says for which model it is, which variant of the method it makes, and how each stage's
labels and training go (the paper's Tables IX-XI for published models).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from qzoom.errors import InvalidRequest, NotFound
from qzoom.model.config import Family
from training.labels.regions import RegionRules
from training.reading.attention import AnswerRows

RECIPE_FOLDER = Path(__file__).parents[1] / "recipes"

Mode = Literal["textual", "natural"]


class Section(BaseModel):
    """Part of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Optimisation(Section):
    """How a stage is trained; the defaults are those of Table IX.

    Attributes:
        lr: Peak learning rate.
        batch: Samples (questions) a step, over all workers.
        micro_batch: Samples that go through the model at once; gradients are accumulated.
        epochs: Passes over the data.
        steps: Length where it is not a number of epochs.
        warmup_ratio: Part of the steps in which the learning rate rises linearly; then a cosine.
        beta1: AdamW's.
        beta2: AdamW's.
        weight_decay: AdamW's.
        clip: Largest norm of the gradient.
        bf16: Compute in bfloat16, parameters and optimizer in float32.
        recompute: Keep no activations inside layers: slower, for large models.
        cache_mb: Memory for states after layer B that are kept from one epoch to the next.
        checkpoint_minutes: How often the training state is written.
        seed: Of the order of samples and of every draw.
    """

    lr: float = Field(gt=0)
    batch: int = Field(ge=1)
    micro_batch: int = Field(default=32, ge=1)
    epochs: float = Field(default=1.0, gt=0)
    steps: int | None = Field(default=None, ge=1)
    warmup_ratio: float = Field(default=0.03, ge=0, le=1)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.98, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    bf16: bool = False
    recompute: bool = False
    cache_mb: int = Field(default=1024, ge=0)
    checkpoint_minutes: float = Field(default=3.0, gt=0)
    seed: int = 0


class HeadsOf(Section):
    """Whose attention is taken for one kind of pictures.

    Attributes:
        heads: Query heads by layer, from 0; an empty list means all heads of the layer.
        sink_heads: Heads that show sinks.
        suffix: Replaces the recipe's suffix in this mode.
    """

    heads: dict[int, list[int]] = {}
    sink_heads: dict[int, list[int]] = {}
    suffix: str | None = None


def _rules(values: object) -> object:
    """A mapping as rules; their own messages name what is wrong."""
    if not isinstance(values, dict):
        return values
    try:
        return RegionRules(**values)
    except TypeError as error:
        raise ValueError(str(error)) from error


class RegionLabels(Section):
    """Labels of the RPN (III-C-2).

    Attributes:
        max_tokens: Visual tokens of the pass whose attention is taken; None takes the coarse one.
        max_new_tokens: Most tokens of an answer.
        rows: Query rows whose attention is taken (Eq. 10; published: `fed_back`).
        keep: Questions that are trained on: all, as published, or those whose answer is right or
            not known, for a model that answers wrongly looked elsewhere.
        match: When an answer is right.
        anls: Smallest similarity that counts as right, with `match: anls`.
        modes: Heads and prompt for pictures with text, and for natural ones.
        rules: From attention to labels.
    """

    max_tokens: int | None = None
    max_new_tokens: int = 128
    rows: AnswerRows = "fed_back"
    keep: Literal["all", "right"] = "all"
    match: Literal["exact", "anls", "contains"] = "exact"
    anls: float = Field(default=0.5, gt=0, le=1)
    modes: dict[Mode, HeadsOf] = {}
    rules: Annotated[RegionRules, BeforeValidator(_rules)] = RegionRules()


class GateLabels(Section):
    """Labels of the gate (III-B-1).

    Attributes:
        budgets: The resolution trajectory in visual tokens, rising.
        max_new_tokens: Most tokens of an answer.
        match: When an answer counts as right.
        anls: Smallest similarity that counts as right, with `match: anls`.
        rule: From answers to labels (see `training.labels.gate`).
        max_easy_ratio: Most questions that are right everywhere for each that is not; None keeps
            all (the published rule has 1).
        draw_budgets: Resolutions that the gate is trained at, of `budgets`; None takes all.
    """

    budgets: list[int] = Field(default=[64, 128, 256, 576, 1024], min_length=2)
    max_new_tokens: int = 128
    match: Literal["exact", "anls", "contains"] = "exact"
    anls: float = Field(default=0.5, gt=0, le=1)
    rule: Literal["consistency", "naive", "published"] = "consistency"
    max_easy_ratio: float | None = Field(default=None, gt=0)
    draw_budgets: list[int] | None = None

    @model_validator(mode="after")
    def _is_rising(self) -> "GateLabels":
        if self.budgets != sorted(set(self.budgets)) or self.budgets[0] < 1:
            raise ValueError(f"budgets are {self.budgets}, must rise")
        if unknown := set(self.draw_budgets or ()) - set(self.budgets):
            raise ValueError(f"draw_budgets has {sorted(unknown)}, which budgets lacks")
        return self


class PostSft(Optimisation):
    """Targeted Post-SFT (III-D).

    Attributes:
        random_boxes: Part of the samples whose predicted box is replaced by a random one (the
            published code for Qwen3-VL has 0.8).
        train_head: Whether the output head is trained too, as published.
        mix: Other questions that are trained on, for each hard one (published 0).
    """

    random_boxes: float = Field(default=0.0, ge=0, le=1)
    train_head: bool = True
    mix: float = Field(default=0.0, ge=0)


class HardSamples(Section):
    """Mining of hard samples (III-D).

    Attributes:
        max_new_tokens: Most tokens of an answer.
        match: When an answer counts as right, where no language model judges.
        anls: Smallest similarity that counts as right, with `match: anls`.
    """

    max_new_tokens: int = 128
    match: Literal["exact", "anls", "contains"] = "exact"
    anls: float = Field(default=0.5, gt=0, le=1)


class StageRecipe(Section):
    """All stages of one model.

    Attributes:
        name: Of the recipe.
        family: The checkpoint must have it.
        num_layers: L; the checkpoint must have it.
        method: Fields of QZoomConfig: the variant of the method that is made.
        suffix: Put after every question.
    """

    name: str
    family: Family
    num_layers: int
    method: dict[str, int | float | str | bool]
    suffix: str = ""
    region_labels: RegionLabels = RegionLabels()
    rpn: Optimisation
    gate_labels: GateLabels = GateLabels()
    gate: Optimisation
    hard_samples: HardSamples = HardSamples()
    post_sft: PostSft


def load_stage_recipe(name: str, changes: Sequence[str] = ()) -> StageRecipe:
    """Read a recipe.

    Args:
        name: Of a recipe that comes with the package, or path of a YAML file.
        changes: `rpn.steps=1000` and so on, values in YAML.

    Raises:
        NotFound: If there is no such recipe.
        InvalidRequest: If a key is unknown or a value not allowed.
    """
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"}:
        path = RECIPE_FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(stage_recipes())
        raise NotFound(f"no recipe {name!r}; known: {known}, or the path of a YAML file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        for change in changes:
            _change(values, change)
        return StageRecipe.model_validate(values)
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{path} is no YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(
            f"{path.name}: {where}: {first['msg']}, got {first['input']!r}"
        ) from error


def stage_recipes() -> list[str]:
    """Names of the recipes of this kind that come with the package."""
    return sorted(
        file.stem for file in RECIPE_FOLDER.glob("*.yaml") if "method:" in file.read_text()
    )


def _change(values: object, change: str) -> None:
    key, equals, text = change.partition("=")
    *parents, last = key.strip().split(".")
    if not equals:
        raise InvalidRequest(f"--set {change}: must be KEY=VALUE, such as rpn.steps=1000")
    for name in parents:
        values = values.setdefault(name, {}) if isinstance(values, dict) else None
    if not isinstance(values, dict):
        raise InvalidRequest(f"--set {change}: there is no {key}")
    values[last] = yaml.safe_load(text)
