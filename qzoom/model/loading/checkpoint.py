"""What is in a checkpoint folder? One view of own, released and plain base checkpoints.

Opening reads configuration files and the names of tensors; each stage then reads its own tensors.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qzoom.model.config import DEFAULT_SPLIT_LAYER, Family, Preset, QZoomConfig
from qzoom.model.loading import keys
from qzoom.model.loading.errors import CheckpointError
from qzoom.model.loading.hf_config import base_shapes, read_hf_config
from qzoom.model.loading.released import (
    derive_qzoom,
    is_llava_repository,
    is_released,
    tower_folder,
)
from qzoom.model.loading.tokenizer import load_tokenizer
from qzoom.model.loading.weights import (
    Location,
    content_hash,
    locate_tensors,
    read_json,
    read_tensors,
)

_NAMED_AT_MOST = 5


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An opened folder; no tensor is in memory.

    Attributes:
        path: The folder.
        family: Of the backbone.
        hf_config: transformers' configuration of the base model.
        qzoom: Which variant of the method the checkpoint follows.
        eos_ids: Tokens that end an answer.
        revision: Fingerprint of configuration and weights, 16 hexadecimal digits.
        preprocessor_config: preprocessor_config.json, empty where the folder has none.
        locations: Where each tensor lies, by canonical name.
    """

    path: Path
    family: Family
    hf_config: PreTrainedConfig
    qzoom: QZoomConfig
    eos_ids: tuple[int, ...]
    revision: str
    preprocessor_config: dict[str, Any]
    locations: Mapping[str, Location]

    def tensors(self, prefixes: Sequence[str]) -> dict[str, Tensor]:
        """Read the tensors below these names, and no others.

        Args:
            prefixes: Canonical names of tensors or modules, such as `lm_head.weight` or
                `model.language_model.layers.3`; a trailing dot changes nothing.

        Returns:
            tensors: By canonical name, in the type in which they are stored.

        Raises:
            CheckpointError: If nothing has one of the names, or a file cannot be read.
        """
        wanted: dict[str, Location] = {}
        for prefix in prefixes:
            stem = prefix.rstrip(".")
            below = {n: at for n, at in self.locations.items() if f"{n}.".startswith(f"{stem}.")}
            if not below:
                raise CheckpointError(f"{self.path} holds no tensor named {stem}")
            wanted |= below
        return read_tensors(wanted)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer with its chat template.

        Raises:
            CheckpointError: If the folder has no tokenizer.
        """
        return load_tokenizer(self.path, self.family)


def open_checkpoint(
    path: Path | str, preset: Preset | None = None, base: Path | str | None = None
) -> Checkpoint:
    """Open a checkpoint folder in our own format, in the authors', or of a plain base model.

    Args:
        path: The folder.
        preset: Variant of the method; None takes what the folder says (own format), `released`
            (the authors' folders) or `paper` (plain base models, which never zoom).
        base: Folder of the base model, to fill what a pruned checkpoint lacks.

    Raises:
        CheckpointError: Saying what is wrong with the folder.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder")
    raw = read_json(folder / "config.json")
    family, hf_config = read_hf_config(raw, folder)
    num_layers = hf_config.get_text_config().num_hidden_layers
    qzoom = _read_qzoom(raw, family, num_layers, preset)
    if qzoom.split_layer >= num_layers:
        raise CheckpointError(
            f"{folder} splits after layer {qzoom.split_layer}, but has {num_layers} layers"
        )
    locations = _locate(folder, raw)
    if base is not None:
        filled = open_checkpoint(base)
        if filled.family != family:
            raise CheckpointError(f"{base} is a {filled.family} model, {folder} a {family} model")
        own_names = {n: at for n, at in filled.locations.items() if not n.startswith("qzoom.")}
        locations = own_names | locations
    hf_config.tie_word_embeddings = _is_tied(raw, hf_config.tie_word_embeddings, locations)
    locations = _check_complete(folder, hf_config, qzoom, locations)
    preprocessor_file = folder / "preprocessor_config.json"
    preprocessor = read_json(preprocessor_file) if preprocessor_file.is_file() else {}
    model = {key: value for key, value in raw.items() if key != "qzoom"}
    settings = json.dumps([model, qzoom.choices(), preprocessor], sort_keys=True).encode()
    return Checkpoint(
        path=folder,
        family=family,
        hf_config=hf_config,
        qzoom=qzoom,
        eos_ids=_eos_ids(folder, hf_config),
        revision=content_hash(sorted({at.file for at in locations.values()}), settings),
        preprocessor_config=preprocessor,
        locations=locations,
    )


def _read_qzoom(
    raw: dict[str, Any], family: Family, num_layers: int, preset: Preset | None
) -> QZoomConfig:
    if is_released(raw):
        return derive_qzoom(raw, family, preset or "released")
    if "qzoom" not in raw:
        split_layer = DEFAULT_SPLIT_LAYER.get((family, num_layers), max(1, num_layers // 2))
        return QZoomConfig.preset(
            preset or "paper", family, split_layer=split_layer, has_gate=False, has_rpn=False
        )
    try:
        stored = QZoomConfig.from_dict(raw["qzoom"])
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"config.json, key qzoom: {error}") from error
    if preset is None:
        return stored
    branches = ("split_layer", "gate_depth", "rpn_depth", "has_gate", "has_rpn")
    kept = {name: getattr(stored, name) for name in branches}
    return QZoomConfig.preset(preset, family, **kept)


def _locate(folder: Path, raw: dict[str, Any]) -> dict[str, Location]:
    locations = locate_tensors(folder, keys.canonical_name)
    tower = tower_folder(raw, folder) if is_llava_repository(raw) else None
    if tower is not None:
        # Frozen in training: a copy inside the checkpoint is equal and comes first.
        locations = locate_tensors(tower, keys.canonical_tower_name) | locations
    return locations


def _check_complete(
    folder: Path, config: PreTrainedConfig, qzoom: QZoomConfig, found: dict[str, Location]
) -> dict[str, Location]:
    """Keep what the model uses; ties are resolved, dead and foreign tensors dropped."""
    base = base_shapes(config)
    if config.tie_word_embeddings and keys.EMBEDDINGS in found:
        found = found | {keys.LM_HEAD: found[keys.EMBEDDINGS]}
    missing = [name for name in base if name not in found]
    if missing:
        raise CheckpointError(
            f"{folder} lacks {_listed(missing)}; a pruned checkpoint needs the folder of its "
            "base model (--base)"
        )
    for name, shape in base.items():
        if found[name].shape != shape:
            raise CheckpointError(
                f"{found[name].file}: {found[name].name} has shape {list(found[name].shape)}, "
                f"config.json asks for {list(shape)}"
            )
    branches = _branch_names(base, qzoom)
    missing = [name for name in branches if name not in found]
    if missing:
        raise CheckpointError(f"{folder} lacks {_listed(missing)}, which its config promises")
    return {name: found[name] for name in [*base, *branches]}


def _is_tied(raw: dict[str, Any], default: bool, found: Mapping[str, Location]) -> bool:
    """Whether the output head is the embedding table.

    Nested configurations say so twice, and versions of transformers read one or the other. Where
    the two disagree, what is stored decides: an own head is a head that was trained.
    """
    nested = raw.get("text_config") or {}
    said = {values.get("tie_word_embeddings") for values in (raw, nested)} - {None}
    if said == {True, False}:
        return keys.LM_HEAD not in found
    return said == {True} if said else default


def _branch_names(base: Iterable[str], qzoom: QZoomConfig) -> list[str]:
    stem = "model.language_model.layers.0."
    parts = [name.removeprefix(stem) for name in base if name.startswith(stem)]
    names: list[str] = []
    if qzoom.has_rpn:
        last = qzoom.rpn_depth - 1
        names += [f"{keys.RPN_LAYERS}.{i}.{part}" for i in range(last) for part in parts]
        scoring = [part for part in parts if keys.is_scoring_part(part)]
        names += [f"{keys.RPN_LAYERS}.{last}.{part}" for part in scoring]
        names += [f"{keys.RPN_NORM}.weight"] if qzoom.rpn_extra_norm else []
    if qzoom.has_gate:
        layers = range(qzoom.gate_depth)
        names += [f"{keys.GATE_LAYERS}.{i}.{part}" for i in layers for part in parts]
        names += [f"{keys.GATE_HEAD}.weight", f"{keys.GATE_HEAD}.bias"]
    return names


def _eos_ids(folder: Path, config: PreTrainedConfig) -> tuple[int, ...]:
    generation = folder / "generation_config.json"
    ids = read_json(generation).get("eos_token_id") if generation.is_file() else None
    if ids is None:
        ids = getattr(config.get_text_config(), "eos_token_id", None)
    if ids is None:
        raise CheckpointError(
            f"neither generation_config.json nor config.json of {folder} has an eos_token_id"
        )
    return (ids,) if isinstance(ids, int) else tuple(ids)


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {rest} more tensors" if rest > 0 else "")
