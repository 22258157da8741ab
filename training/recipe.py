"""Recipes of a model made from nothing: its base, and what follows. Typed, unknown keys refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

import yaml

from training.model_config import ModelSize
from training.modes import Budgets

RECIPE_FOLDER = Path(__file__).parent / "recipes"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the base's curriculum."""

    name: str
    share: float
    """Part of the whole run, in (0, 1]; the phases' shares sum to 1."""
    lr_start: float
    lr_end: float
    """The learning rate moves linearly between the two."""
    modes: dict[str, float]
    """Weight of each sample layout (training/modes.py)."""
    aux_weight: float = 0.0
    """Weight of the auxiliary vision loss."""
    order_weight: float = 1.0
    """Weight, within it, of each character's place in its code."""
    pages: int = 0
    """Pages of print a step (training/pages.py), which only the auxiliary loss sees: cheap, and
    what a token shows limits what can be read from it."""
    pointing_weight: float = 0.0
    """Weight of the loss that teaches words which name an item to look at it."""
    place_weight: float = 0.0
    """Weight of the loss that teaches the source picture's tokens their place."""
    answers: bool = True
    """Train on answers too; False trains the vision tower alone."""


@dataclass(frozen=True, slots=True)
class BaseRecipe:
    """How the base model is trained."""

    phases: list[Phase]
    clock: Literal["steps", "core", "wall"] = "wall"
    """What the schedule runs on. Only `steps` gives the same weights on every machine."""
    steps: int = 4000
    """Length if the clock is `steps`."""
    max_minutes: float = 75.0
    """Length if the clock is `core` (minutes of CPU time) or `wall`."""
    batch: dict[str, int] = field(default_factory=dict)
    """Pictures a step, per mode."""
    weight_decay: float = 0.02
    warmup_steps: int = 60
    checkpoint_s: float = 150.0
    validate_s: float = 240.0
    validation_pictures: int = 48


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What follows the base: the paper's stages on the model's own answers and attention."""

    recipe: str = "built-in-stages"
    """Recipe of these stages (training/stages/recipe.py)."""
    changes: list[str] = field(default_factory=list)
    """Values to replace in it: "rpn.steps=1000"."""
    heads: str | None = None
    """Layers and heads whose attention is distilled; None finds them."""
    heads_data: str = "builtin:train?seed=101&count=120"
    """Pictures to find them on; like all of these, none that the base has seen."""
    rpn_data: str = "builtin:train?seed=102&count=1200"
    gate_data: str = "builtin:train?seed=103&count=1200"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is made from nothing."""

    name: str
    base: BaseRecipe
    stages: StagePlan = field(default_factory=StagePlan)
    seed: int = 0
    threads: int = 1
    size: ModelSize = field(default_factory=ModelSize)
    budgets: Budgets = field(default_factory=Budgets)


def load_recipe(name_or_path: str) -> Recipe:
    """Read a recipe by name ("built-in") or by path of a YAML file.

    Raises:
        ValueError: If the file is missing, or a key is unknown or of the wrong type.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = RECIPE_FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPE_FOLDER.glob("*.yaml")))
        raise ValueError(f"no recipe {name_or_path!r}; known: {known}")
    recipe = _build(Recipe, yaml.safe_load(path.read_text()), path.name)
    total = sum(phase.share for phase in recipe.base.phases)
    if abs(total - 1) > 1e-6:
        raise ValueError(f"{path.name}: shares of base.phases sum to {total}, must be 1")
    return recipe


def _build(kind: type[T], values: Any, where: str) -> T:  # noqa: ANN401 -- parsed YAML
    """Fill a dataclass from parsed YAML."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be a mapping, got {type(values).__name__}")
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - names):
        raise ValueError(f"{where}: unknown keys {', '.join(unknown)}")
    hints = get_type_hints(kind)
    built = {
        name: _convert(hints[name], value, f"{where}.{name}") for name, value in values.items()
    }
    try:
        return kind(**built)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    if is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, where)
    if getattr(hint, "__origin__", None) is list:
        return [_convert(hint.__args__[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if getattr(hint, "__origin__", None) is tuple:
        return tuple(value)
    if isinstance(hint, type) and hint in (int, float, str, bool) and type(value) is not hint:
        raise ValueError(f"{where} is {value!r}, must be {hint.__name__}")
    return value
