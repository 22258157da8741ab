"""Configurations of random checkpoints: every mechanism of each family, at the smallest size."""

from dataclasses import dataclass, replace
from typing import Any

from transformers import LlavaConfig, PreTrainedConfig, Qwen2_5_VLConfig, Qwen3VLConfig
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qzoom.model.config import Family
from qzoom.model.random_tokenizer import placeholder_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """Sizes of a random model.

    Attributes:
        hidden_size: D, width of the decoder.
        num_layers: L.
        num_heads: Query heads of the decoder.
        num_kv_heads: Its KV heads; LLaVA-1.5 has as many as query heads whatever this says.
        split_layer: B.
        branch_depth: R.
        vision_size: Width of the vision tower, which has two heads.
        vision_depth: Its layers, at least 3.
        max_positions: Longest sequence.
        mlp_ratio: Width of the decoder's MLP as a multiple of `hidden_size`.
        vision_mlp_ratio: Width of the tower's MLP as a multiple of `vision_size`.
        vision_full: Layers of Qwen2.5-VL's tower without windows, from 0; None is the last one.
    """

    hidden_size: int = 64
    num_layers: int = 6
    num_heads: int = 4
    num_kv_heads: int = 2
    split_layer: int = 3
    branch_depth: int = 2
    vision_size: int = 32
    vision_depth: int = 3
    max_positions: int = 8192
    mlp_ratio: float = 1.5
    vision_mlp_ratio: float = 1.5
    vision_full: tuple[int, ...] | None = None


def random_config(
    family: Family, size: ModelSize, tokenizer: PreTrainedTokenizerBase, *, is_tied: bool
) -> PreTrainedConfig:
    """Configure a base model.

    Args:
        family: Of the backbone.
        size: Its sizes.
        tokenizer: Gives the size of the vocabulary and the special ids.
        is_tied: Whether the output head shares the embeddings.
    """
    make = {"qwen2_5_vl": _qwen2_5_vl, "qwen3_vl": _qwen3_vl, "llava": _llava}[family]
    return make(size, tokenizer, is_tied)


def _text(size: ModelSize, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": size.hidden_size,
        "intermediate_size": int(size.hidden_size * size.mlp_ratio),
        "num_hidden_layers": size.num_layers,
        "num_attention_heads": size.num_heads,
        "num_key_value_heads": size.num_kv_heads,
        "max_position_embeddings": size.max_positions,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _vision(size: ModelSize) -> dict[str, Any]:
    return {
        "depth": size.vision_depth,
        "hidden_size": size.vision_size,
        "intermediate_size": int(size.vision_size * size.vision_mlp_ratio),
        "num_heads": 2,
        "out_hidden_size": size.hidden_size,
    }


def _token_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    marks = ("image", "image_pad"), ("video", "video_pad"), *((n, n) for n in _DELIMITERS)
    return {f"{n}_token_id": tokenizer.convert_tokens_to_ids(f"<|{mark}|>") for n, mark in marks}


_DELIMITERS = ("vision_start", "vision_end")


def _qwen2_5_vl(
    size: ModelSize, tokenizer: PreTrainedTokenizerBase, is_tied: bool
) -> PreTrainedConfig:
    frequencies = size.hidden_size // size.num_heads // 2
    spatial = frequencies * 3 // 8
    # Windows in all layers but a few, as in the real tower.
    full = (size.vision_depth - 1,) if size.vision_full is None else size.vision_full
    rope = {
        "rope_type": "default",
        "rope_theta": 1_000_000.0,
        "mrope_section": [frequencies - 2 * spatial, spatial, spatial],
    }
    return Qwen2_5_VLConfig(
        text_config={**_text(size, tokenizer), "rms_norm_eps": 1e-6, "rope_parameters": rope},
        vision_config={**_vision(size), "fullatt_block_indexes": list(full)},
        tie_word_embeddings=is_tied,
        architectures=["Qwen2_5_VLForConditionalGeneration"],
        **_token_ids(tokenizer),
    )


def _qwen3_vl(
    size: ModelSize, tokenizer: PreTrainedTokenizerBase, is_tied: bool
) -> PreTrainedConfig:
    head_size = size.hidden_size // size.num_heads
    spatial = head_size // 8
    rope = {
        "rope_type": "default",
        "rope_theta": 5_000_000.0,
        "mrope_interleaved": True,
        "mrope_section": [head_size // 2 - 2 * spatial, spatial, spatial],
    }
    text = {**_text(size, tokenizer), "head_dim": head_size, "rope_parameters": rope}
    vision = {**_vision(size), "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    return Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=is_tied,
        architectures=["Qwen3VLForConditionalGeneration"],
        **_token_ids(tokenizer),
    )


def _llava(size: ModelSize, tokenizer: PreTrainedTokenizerBase, is_tied: bool) -> PreTrainedConfig:
    text = _text(replace(size, num_kv_heads=size.num_heads), tokenizer)
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": size.vision_size,
        "intermediate_size": int(size.vision_size * size.vision_mlp_ratio),
        "num_hidden_layers": size.vision_depth,
        "num_attention_heads": 2,
        "image_size": 336,
        "patch_size": 14,
        "projection_dim": size.vision_size,
    }
    return LlavaConfig(
        text_config={**text, "model_type": "llama", "rms_norm_eps": 1e-5},
        vision_config=vision,
        image_token_index=placeholder_id(tokenizer, "llava"),
        image_seq_length=576,
        tie_word_embeddings=is_tied,
        architectures=["LlavaForConditionalGeneration"],
    )
