"""The built-in model's architecture: a real Qwen2.5-VL, small enough for two CPU cores."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.tokenization_utils_base import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Sizes that a recipe may choose."""

    hidden_size: int = 128
    """D, width of vision tower and decoder."""
    intermediate_size: int = 352
    """Width of the SwiGLU of both."""
    num_heads: int = 4
    """Query heads of the decoder and heads of the vision tower."""
    num_kv_heads: int = 1
    num_text_layers: int = 8
    num_vision_layers: int = 3
    rope_theta: float = 16.0
    """Base of M-RoPE. Qwen's 1e6 cannot tell neighbours apart with a head of 32."""
    mrope_section: tuple[int, int, int] = (4, 6, 6)
    """Frequencies of the t, h and w axes; their sum is half the head size."""
    window_px: int = 84
    """Side of the vision tower's attention window."""


def base_config(size: ModelSize, tokenizer: PreTrainedTokenizerBase) -> Qwen2_5_VLConfig:
    """Config of the plain base model.

    Args:
        size: Widths and depths.
        tokenizer: Gives vocabulary size and the ids of Qwen's special tokens.
    """
    ids = {
        token: cast(int, tokenizer.convert_tokens_to_ids(token))
        for token in tokenizer.all_special_tokens
    }
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": size.hidden_size,
        "intermediate_size": size.intermediate_size,
        "num_hidden_layers": size.num_text_layers,
        "num_attention_heads": size.num_heads,
        "num_key_value_heads": size.num_kv_heads,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": size.rope_theta,
            "mrope_section": list(size.mrope_section),
        },
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }
    vision: dict[str, Any] = {
        "depth": size.num_vision_layers,
        "hidden_size": size.hidden_size,
        "intermediate_size": size.intermediate_size,
        "num_heads": size.num_heads,
        "out_hidden_size": size.hidden_size,
        "window_size": size.window_px,
        "fullatt_block_indexes": [1],
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        architectures=["Qwen2_5_VLForConditionalGeneration"],
        tie_word_embeddings=False,
    )


def new_model(config: Qwen2_5_VLConfig, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """A randomly initialised base model; equal seeds give equal weights."""
    torch.manual_seed(seed)
    config.dtype = "float32"
    model = Qwen2_5_VLForConditionalGeneration(config)
    for name, parameter in model.named_parameters():
        # transformers' 0.02 is meant for widths of thousands; 1/sqrt(fan in) suits 128.
        if parameter.ndim >= 2 and "embed_tokens" not in name:
            fan_in = parameter[0].numel()
            torch.nn.init.normal_(parameter, std=fan_in**-0.5 * 0.7)
    torch.nn.init.normal_(model.model.language_model.embed_tokens.weight, std=0.5)
    return model
