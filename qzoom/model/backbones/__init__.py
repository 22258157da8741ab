"""Backbones: one adapter per family over transformers' own modules."""

from typing import Any

from qzoom.model.backbones import llava, qwen2_5_vl, qwen3_vl
from qzoom.model.backbones.base import TextBackbone, VisionTower
from qzoom.model.config import Family

__all__ = ["TextBackbone", "VisionTower", "text_backbone", "vision_tower"]


def text_backbone(family: Family, config: Any) -> TextBackbone:  # noqa: ANN401
    """Adapt the language model of a transformers config."""
    match family:
        case "qwen2_5_vl":
            return qwen2_5_vl.text_backbone(config)
        case "qwen3_vl":
            return qwen3_vl.text_backbone(config)
        case "llava":
            return llava.text_backbone(config)


def vision_tower(family: Family, config: Any) -> VisionTower:  # noqa: ANN401
    """Make the vision tower (and projector) of a transformers config without memory."""
    match family:
        case "qwen2_5_vl":
            return qwen2_5_vl.vision_tower(config)
        case "qwen3_vl":
            return qwen3_vl.vision_tower(config)
        case "llava":
            return llava.ClipVisionTower(config)
