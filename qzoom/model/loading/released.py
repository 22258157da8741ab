"""What do the authors' config.json files say? Their keys become typed configurations here.

Only keys of the top level count: some releases mirror them into `text_config`, where nothing
reads them. Values whose behaviour is not supported are refused by name.
"""

from pathlib import Path
from typing import Any

from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from qzoom.model.config import Family, Preset, QZoomConfig
from qzoom.model.loading.errors import CheckpointError
from qzoom.model.loading.weights import read_json

PUBLISHED_KEYS = frozenset(
    {
        "add_noise_to_roi",
        "enable_high_res",
        "enable_twig",
        "high_res_K",
        "high_res_T",
        "high_res_thresh",
        "max_pixels",
        "min_pixels",
        "mm_config",
        "reuse_src_pos",
        "roi_branch",
        "roi_enable2stage",
        "roi_keep_ffn_mod_ratio",
        "roi_loss",
        "roi_multi_head",
        "roi_post_training",
        "roi_skip_ffn",
        "roi_source",
        "roi_super_type",
        "twig_K",
        "twig_T",
    }
)
"""Q-Zoom's and SD-RPN's own keys, which transformers' configurations do not know."""

_LLAMA_KEYS = frozenset(
    {
        "attention_bias",
        "attention_dropout",
        "bos_token_id",
        "eos_token_id",
        "head_dim",
        "hidden_act",
        "hidden_size",
        "initializer_range",
        "intermediate_size",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "pad_token_id",
        "rms_norm_eps",
        "rope_scaling",
        "rope_theta",
        "tie_word_embeddings",
        "vocab_size",
    }
)

_KNOWN_TOWERS: dict[str, dict[str, Any]] = {
    "openai/clip-vit-large-patch14-336": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
        "projection_dim": 768,
    }
}
"""Towers that LLaVA-1.5 names by their place on the hub; the weights are in the checkpoint."""


def is_released(raw: dict[str, Any]) -> bool:
    """Whether config.json was written by the authors' code."""
    return "qzoom" not in raw and bool(raw.get("enable_twig") or raw.get("enable_high_res"))


def is_llava_repository(raw: dict[str, Any]) -> bool:
    """Whether config.json is of LLaVA's own repository, not of transformers."""
    return "mm_vision_tower" in raw


def derive_qzoom(raw: dict[str, Any], family: Family, preset: Preset) -> QZoomConfig:
    """Translate the published keys.

    Args:
        raw: config.json.
        family: Of the backbone.
        preset: `released` follows the published code, `paper` the paper, with the same branches.

    Raises:
        CheckpointError: If a value's behaviour is not supported.
    """
    has_rpn, has_gate = bool(raw.get("enable_twig")), bool(raw.get("enable_high_res"))
    if not has_rpn or raw.get("twig_K") is None or raw.get("twig_T") is None:
        raise CheckpointError("config.json lacks enable_twig, twig_K or twig_T")
    depth, split_layer = raw["twig_T"], raw["twig_K"]
    _require(raw, "roi_source", "qk")
    _require(raw, "roi_loss", "bce")
    _require(raw, "high_res_K", split_layer)
    fields: dict[str, Any] = {
        "gate_depth": raw.get("high_res_T") or depth,
        "rpn_depth": depth,
        "has_gate": has_gate,
        "has_rpn": has_rpn,
    }
    if family != "llava":
        _require(raw, "roi_super_type", "v1")
    if preset == "released":
        fields["tau_gate"] = raw.get("high_res_thresh", 0.1)
        if family == "llava":
            # The code's default; the Qwen families ignore the key and are always multi-head.
            fields["rpn_multi_head"] = raw.get("roi_multi_head", False)
            fields["rpn_extra_norm"] = raw.get("roi_super_type", "v1") != "lazy"
        else:
            reuse = raw.get("reuse_src_pos", False)
            fields["roi_positions"] = "interpolated" if reuse else "sequential"
    return QZoomConfig.preset(preset, family, split_layer=split_layer, **fields)


def llava_config(raw: dict[str, Any], folder: Path) -> LlavaConfig:
    """Translate the config.json of LLaVA's own repository.

    Raises:
        CheckpointError: If the tower is unknown or an option is not LLaVA-1.5's.
    """
    _require(raw, "mm_projector_type", "mlp2x_gelu")
    _require(raw, "mm_vision_select_feature", "patch")
    _require(raw, "image_aspect_ratio", "pad")
    tower = CLIPVisionConfig(**_tower_values(raw["mm_vision_tower"], folder))
    assert isinstance(tower.image_size, int) and isinstance(tower.patch_size, int)  # noqa: PT018
    text = LlamaConfig(**{key: raw[key] for key in _LLAMA_KEYS if raw.get(key) is not None})
    return LlavaConfig(
        text_config=text,
        vision_config=tower,
        # The repository marks pictures by -200, outside the vocabulary. Here they take the id of
        # the padding, which no text contains.
        image_token_index=raw.get("pad_token_id") or 0,
        image_seq_length=(tower.image_size // tower.patch_size) ** 2,
        vision_feature_layer=raw.get("mm_vision_select_layer", -2),
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
        tie_word_embeddings=raw.get("tie_word_embeddings", False),
        architectures=["LlavaForConditionalGeneration"],
    )


def tower_folder(raw: dict[str, Any], folder: Path) -> Path | None:
    """Folder of the CLIP tower, where config.json names one that exists."""
    path = folder / str(raw["mm_vision_tower"])
    return path if (path / "config.json").is_file() else None


def _tower_values(name: str, folder: Path) -> dict[str, Any]:
    path = tower_folder({"mm_vision_tower": name}, folder)
    if path is not None:
        values = read_json(path / "config.json")
        # A whole CLIP nests its tower.
        return values.get("vision_config") or values
    if name in _KNOWN_TOWERS:
        return _KNOWN_TOWERS[name]
    raise CheckpointError(
        f"config.json names the vision tower {name!r}, which is neither a folder in {folder} nor "
        f"one of {', '.join(_KNOWN_TOWERS)}"
    )


def _require(raw: dict[str, Any], key: str, supported: object) -> None:
    if raw.get(key, supported) not in (supported, None):
        raise CheckpointError(f"config.json has {key} {raw[key]!r}; supported is {supported!r}")
