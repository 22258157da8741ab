"""Qwen3-VL: deepstack features, q/k norm, interleaved M-RoPE."""

from typing import Any

import torch
from transformers.models.qwen3_vl import modeling_qwen3_vl as hf

from qzoom.model.backbones.base import TextBackbone
from qzoom.model.backbones.qwen2_5_vl import QwenVisionTower


def text_backbone(config: Any) -> TextBackbone:  # noqa: ANN401 - a transformers config
    """Adapt the language model of a Qwen3VLConfig."""
    return TextBackbone.create(
        config.text_config,
        layer_type=hf.Qwen3VLTextDecoderLayer,
        norm_type=hf.Qwen3VLTextRMSNorm,
        rotary_type=hf.Qwen3VLTextRotaryEmbedding,
        mrope=True,
        num_deepstack=len(config.vision_config.deepstack_visual_indexes),
    )


def vision_tower(config: Any) -> QwenVisionTower:  # noqa: ANN401 - a transformers config
    """Make the vision tower of a Qwen3VLConfig without memory."""
    vision = config.vision_config
    with torch.device("meta"):
        tower = hf.Qwen3VLVisionModel(vision)
    return QwenVisionTower(tower, hf.Qwen3VLVisionRotaryEmbedding(vision), vision)
