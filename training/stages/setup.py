"""Does everything fit together? Checked before any work begins, with the field and both values."""

import dataclasses
from pathlib import Path
from typing import Any

from qzoom.errors import InvalidRequest
from qzoom.model.config import QZoomConfig
from qzoom.model.loading import Checkpoint, CheckpointError, open_checkpoint
from qzoom.model.loading.weights import content_hash, read_json
from training.stages.recipe import StageRecipe

_TUNED = {"tau_gate", "tau_roi"}
"""May differ: calibration changes them."""


def open_for_stage(model: Path, recipe: StageRecipe) -> Checkpoint:
    """Open a checkpoint as a recipe wants it.

    A plain base model follows the recipe's variant of the method; a folder that states its own
    must state the same.

    Raises:
        InvalidRequest: If they do not fit, naming the field and the two values.
    """
    try:
        checkpoint = open_checkpoint(model)
    except CheckpointError as error:
        raise InvalidRequest(str(error)) from error
    layers = checkpoint.hf_config.get_text_config().num_hidden_layers
    for name, found, wanted in (
        ("family", checkpoint.family, recipe.family),
        ("num_layers", layers, recipe.num_layers),
    ):
        if found != wanted:
            raise InvalidRequest(
                f"{name} is {found!r} in {model}, but {wanted!r} in the recipe {recipe.name}"
            )
    own = checkpoint.qzoom
    stated: dict[str, Any] = read_json(model / "config.json").get("qzoom") or {}
    for name, value in recipe.method.items():
        if name in stated and name not in _TUNED and stated[name] != value:
            raise InvalidRequest(
                f"qzoom.{name} is {stated[name]!r} in {model}, but {value!r} in the recipe "
                f"{recipe.name}"
            )
    method: dict[str, Any] = {k: v for k, v in recipe.method.items() if k not in stated}
    try:
        qzoom = QZoomConfig.from_dict(own.to_dict() | method)
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"recipe {recipe.name}, method: {error}") from error
    return dataclasses.replace(checkpoint, qzoom=qzoom)


def base_revision(checkpoint: Checkpoint) -> str:
    """Fingerprint of the base model's weights: branches that are added do not change it."""
    files = {at.file for name, at in checkpoint.locations.items() if not name.startswith("qzoom.")}
    return content_hash(sorted(files))
