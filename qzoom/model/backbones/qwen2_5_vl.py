"""Qwen2.5-VL: window attention in the vision tower, M-RoPE in sections."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as hf

from qzoom.model.backbones.base import TextBackbone


def text_backbone(config: Any) -> TextBackbone:  # noqa: ANN401 - a transformers config
    """Adapt the language model of a Qwen2_5_VLConfig."""
    return TextBackbone.create(
        config.text_config,
        layer_type=hf.Qwen2_5_VLDecoderLayer,
        norm_type=hf.Qwen2_5_VLRMSNorm,
        rotary_type=hf.Qwen2_5_VLRotaryEmbedding,
        mrope=True,
    )


class QwenVisionTower(nn.Module):
    """A Qwen vision tower: pictures of any size, packed into one pass.

    Args:
        tower: transformers' tower on the meta device.
        rotary: Its rotary embedding on a real device, which has no parameters to load.
        config: transformers' vision config.
    """

    prefixes: ClassVar[dict[str, str]] = {"model.visual.": "tower."}

    def __init__(self, tower: nn.Module, rotary: nn.Module, config: Any) -> None:  # noqa: ANN401
        super().__init__()
        tower.rotary_pos_emb = rotary
        self.tower = tower
        self._merge = int(config.spatial_merge_size)

    def encode(self, pixels: list[Tensor], grids: list[tuple[int, int]]) -> list[Tensor]:
        """Encode pictures (see `VisionTower`)."""
        grid_thw = torch.tensor(
            [[1, height * self._merge, width * self._merge] for height, width in grids],
            device=pixels[0].device,
        )
        output = self.tower(torch.cat(pixels), grid_thw=grid_thw)
        levels = [output.pooler_output, *getattr(output, "deepstack_features", ())]
        sizes = [height * width for height, width in grids]
        return list(torch.split(torch.stack(levels), sizes, dim=1))


def vision_tower(config: Any) -> QwenVisionTower:  # noqa: ANN401 - a transformers config
    """Make the vision tower of a Qwen2_5_VLConfig without memory."""
    vision = config.vision_config
    with torch.device("meta"):
        tower = hf.Qwen2_5_VisionTransformerPretrainedModel(vision)
    return QwenVisionTower(tower, hf.Qwen2_5_VLVisionRotaryEmbedding(vision), vision)
