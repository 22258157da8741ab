"""Random checkpoints in the authors' layout: their config keys, tensor names and files.

Qwen2.5-VL as transformers 4.51 saved it, Qwen3-VL as 4.57 did, LLaVA-1.5 as its own repository
under 4.36.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qzoom.model.config import Family, QZoomConfig
from qzoom.model.images import default_settings
from qzoom.model.loading import keys
from qzoom.model.loading.writer import write_json
from qzoom.model.random_tokenizer import write_sentencepiece

_TOWER_FOLDER = "vision_tower"

_STORED_PREFIXES: dict[Family, tuple[tuple[str, str], ...]] = {
    "qwen2_5_vl": (
        (f"{keys.RPN_LAYERS}.", "model.twig_layers."),
        (f"{keys.GATE_LAYERS}.", "model.high_res_layers."),
        (f"{keys.GATE_HEAD}.", "model.high_res_head."),
        ("model.language_model.", "model."),
        ("model.visual.", "visual."),
    ),
    "qwen3_vl": (
        (f"{keys.RPN_LAYERS}.", "model.language_model.twig_layers."),
        (f"{keys.GATE_LAYERS}.", "model.language_model.high_res_layers."),
        (f"{keys.GATE_HEAD}.", "model.language_model.high_res_head."),
    ),
    "llava": (
        (f"{keys.RPN_LAYERS}.", "model.twig_layers."),
        (f"{keys.RPN_NORM}.", "model.twig_norm."),
        ("model.language_model.", "model."),
        ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
        ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
        ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
    ),
}


def write_released(
    folder: Path,
    family: Family,
    config: PreTrainedConfig,
    qzoom: QZoomConfig,
    tokenizer: PreTrainedTokenizerBase,
    tensors: Mapping[str, Tensor],
) -> None:
    """Write a folder as the authors' code would have.

    Args:
        folder: An existing empty folder.
        family: Of the backbone.
        config: Of the base model.
        qzoom: Variant of the method, as far as the published keys can say it.
        tokenizer: A small one of the family's class.
        tensors: Weights by canonical name; stored in bfloat16.
    """
    stored = {_released_name(name, family): t for name, t in tensors.items()}
    if family == "llava":
        # Training left a copy of the output head behind.
        stored["twig_head.weight"] = tensors[keys.LM_HEAD].clone()
    _save(stored, folder / "model.safetensors")
    write_json(folder / "config.json", _config_json(family, config, qzoom))
    write_json(folder / "generation_config.json", {"eos_token_id": tokenizer.eos_token_id})
    processor = default_settings(family, config.vision_config, qzoom)
    if family == "llava":
        _write_llava_files(folder, config, tensors, processor)
        return
    write_json(folder / "preprocessor_config.json", processor)
    tokenizer.save_pretrained(folder)
    if family == "qwen2_5_vl":
        _move_template(folder)


def _released_name(name: str, family: Family) -> str:
    for prefix, stored in _STORED_PREFIXES[family]:
        if name.startswith(prefix):
            return stored + name.removeprefix(prefix)
    return name


def _config_json(family: Family, config: PreTrainedConfig, qzoom: QZoomConfig) -> dict[str, Any]:
    values: dict[str, Any] = {
        "enable_twig": qzoom.has_rpn,
        "twig_K": qzoom.split_layer,
        "twig_T": qzoom.rpn_depth,
        "roi_source": "qk",
        "roi_loss": "bce",
        "roi_super_type": "v1",
        "roi_multi_head": qzoom.rpn_multi_head,
        "torch_dtype": "bfloat16",
    }
    text = _old_rope(config.get_text_config().to_dict())
    vision = config.vision_config.to_dict()
    if family == "llava":
        return (
            values
            | text
            | {
                "architectures": ["LlavaLlamaForCausalLM"],
                "model_type": "llava_llama",
                "image_aspect_ratio": "pad",
                "mm_hidden_size": vision["hidden_size"],
                "mm_projector_type": "mlp2x_gelu",
                "mm_vision_select_feature": "patch",
                "mm_vision_select_layer": -2,
                "mm_vision_tower": _TOWER_FOLDER,
                "tie_word_embeddings": config.tie_word_embeddings,
            }
        )
    values |= {
        "enable_high_res": qzoom.has_gate,
        "reuse_src_pos": qzoom.roi_positions != "sequential",
        "architectures": config.architectures,
        "tie_word_embeddings": config.tie_word_embeddings,
        **{key: getattr(config, key) for key in _TOKEN_IDS},
    }
    if family == "qwen2_5_vl":
        # Flat, the tower under the name of the whole, and M-RoPE as a type of its own.
        text["rope_scaling"]["type"] = "mrope"
        return (
            text
            | values
            | {
                "model_type": family,
                "vision_config": vision | {"model_type": family},
            }
        )
    mirrored = text | {"mm_config": dict(values), "twig_K": qzoom.split_layer}
    return values | {
        "model_type": family,
        "text_config": mirrored,
        "vision_config": vision | {"model_type": family},
    }


_TOKEN_IDS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


def _old_rope(text: dict[str, Any]) -> dict[str, Any]:
    """Spell RoPE as before transformers 5."""
    rope = dict(text.pop("rope_parameters"))
    theta = rope.pop("rope_theta")
    is_plain = set(rope) <= {"rope_type", "type"}
    return text | {"rope_theta": theta, "rope_scaling": None if is_plain else rope}


def _write_llava_files(
    folder: Path,
    config: PreTrainedConfig,
    tensors: Mapping[str, Tensor],
    processor: dict[str, Any],
) -> None:
    write_sentencepiece(folder / "tokenizer.model")
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "LlamaTokenizer", "legacy": False, "model_max_length": 2048},
    )
    tower = folder / _TOWER_FOLDER
    tower.mkdir()
    prefix = "model.vision_tower."
    weights = {
        f"vision_model.{name.removeprefix(prefix)}": t
        for name, t in tensors.items()
        if name.startswith(prefix)
    }
    _save(weights, tower / "model.safetensors")
    write_json(tower / "config.json", config.vision_config.to_dict())
    write_json(tower / "preprocessor_config.json", processor)


def _move_template(folder: Path) -> None:
    """Keep the chat template where transformers 4.51 kept it."""
    template, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    write_json(config, values | {"chat_template": template.read_text(encoding="utf-8")})
    template.unlink()


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file(
        {name: t.to(torch.bfloat16) for name, t in tensors.items()}, path, metadata={"format": "pt"}
    )
