"""Does everything fit together? Checked before any work begins, with the field and both values."""

import contextlib
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from safetensors import safe_open

from qzoom.errors import InvalidRequest
from qzoom.model.config import QZoomConfig
from qzoom.model.loading import Checkpoint, CheckpointError, open_checkpoint
from qzoom.model.loading.weights import read_json
from training.stages.recipe import StageRecipe

_TUNED = {"tau_gate", "tau_roi"}
"""May differ: calibration changes them."""
_OF_THE_RPN = {"roi_threshold"}
"""Say nothing about a model that has no RPN yet."""


def open_for_stage(model: Path, recipe: StageRecipe) -> Checkpoint:
    """Open a checkpoint as a recipe wants it.

    A plain base model follows the recipe's variant of the method; a folder that states its own
    must state the same. What a folder with a gate or an RPN does not state keeps its default: its
    branches were made and calibrated with that.

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
    if not own.has_rpn:
        stated = {name: value for name, value in stated.items() if name not in _OF_THE_RPN}
    for name, value in recipe.method.items():
        if name in stated and name not in _TUNED and stated[name] != value:
            raise InvalidRequest(
                f"qzoom.{name} is {stated[name]!r} in {model}, but {value!r} in the recipe "
                f"{recipe.name}"
            )
    is_finished = bool(stated) and (own.has_gate or own.has_rpn)
    absent = () if is_finished else recipe.method.keys() - stated.keys()
    method: dict[str, Any] = {name: recipe.method[name] for name in absent}
    try:
        qzoom = QZoomConfig.from_dict(own.to_dict() | method)
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"recipe {recipe.name}, method: {error}") from error
    return dataclasses.replace(checkpoint, qzoom=qzoom)


def base_revision(checkpoint: Checkpoint) -> str:
    """Fingerprint of the base model's weights.

    Branches that are added, other file names and a wider type do not change it; training any of
    the base's tensors does. Two rows of each tensor are read.
    """
    digest = hashlib.sha256()
    files: dict[Path, Any] = {}
    with contextlib.ExitStack() as stack:
        for name, at in sorted(checkpoint.locations.items()):
            if name.startswith("qzoom."):
                continue
            if at.file not in files:
                files[at.file] = stack.enter_context(safe_open(at.file, framework="pt"))
            stored = files[at.file].get_slice(at.name)
            middle = at.shape[0] // 2
            digest.update(f"{name}{at.shape}".encode())
            for row in (0, middle):
                digest.update(stored[row : row + 1].float().numpy().tobytes())
    return digest.hexdigest()[:16]
