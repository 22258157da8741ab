"""Which backbone is this? transformers' own configuration from any generation of config.json."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    LlavaConfig,
    PreTrainedConfig,
    Qwen2_5_VLConfig,
    Qwen3VLConfig,
)

from qzoom.model.config import Family
from qzoom.model.loading.errors import CheckpointError
from qzoom.model.loading.released import PUBLISHED_KEYS, is_llava_repository, llava_config

_CONFIGS: dict[Family, type[PreTrainedConfig]] = {
    "qwen2_5_vl": Qwen2_5_VLConfig,
    "qwen3_vl": Qwen3VLConfig,
    "llava": LlavaConfig,
}


def read_hf_config(raw: dict[str, Any], folder: Path) -> tuple[Family, PreTrainedConfig]:
    """Build the base model's configuration.

    Old spellings (flat text settings, rope_scaling and rope_theta) are translated by transformers
    itself; LLaVA's own repository by `released.llava_config`.

    Args:
        raw: config.json.
        folder: Of the checkpoint.

    Raises:
        CheckpointError: If the backbone is not one of the three families, or a value is invalid.
    """
    try:
        if is_llava_repository(raw):
            return "llava", llava_config(raw, folder)
        model_type = raw.get("model_type")
        if model_type not in _CONFIGS:
            raise CheckpointError(
                f"{folder} holds a model of type {model_type!r}, supported are "
                f"{', '.join(_CONFIGS)} and llava_llama"
            )
        family: Family = model_type
        # transformers' converter writes into the dictionary that it is given.
        config: PreTrainedConfig = _CONFIGS[family].from_dict(_without_published_keys(raw))
    except CheckpointError:
        raise
    except Exception as error:  # transformers' validators raise errors of many classes
        raise CheckpointError(f"{folder / 'config.json'} is not valid: {error}") from error
    return family, config


def base_shapes(config: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the base model, without allocating any."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)  # type: ignore[no-untyped-call]
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _without_published_keys(raw: dict[str, Any]) -> dict[str, Any]:
    dropped = PUBLISHED_KEYS | {"qzoom"}
    values = {key: value for key, value in raw.items() if key not in dropped}
    if isinstance(values.get("text_config"), dict):
        text = values["text_config"].items()
        values["text_config"] = {k: v for k, v in text if k not in dropped | {"vision_config"}}
    return values
