"""LLaVA-1.5: a CLIP tower of fixed input size, a two-layer projector, ordinary RoPE."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel
from transformers.models.llama import modeling_llama as hf
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from qzoom.model.backbones.base import TextBackbone


def text_backbone(config: Any) -> TextBackbone:  # noqa: ANN401 - a transformers config
    """Adapt the language model of a LlavaConfig."""
    return TextBackbone.create(
        config.text_config,
        layer_type=hf.LlamaDecoderLayer,
        norm_type=hf.LlamaRMSNorm,
        rotary_type=hf.LlamaRotaryEmbedding,
        mrope=False,
    )


class ClipVisionTower(nn.Module):
    """CLIP up to the layer whose states LLaVA uses, then the projector.

    Args:
        config: A LlavaConfig.

    Raises:
        ValueError: If it uses several layers of the tower, or its class token.
    """

    def __init__(self, config: Any) -> None:  # noqa: ANN401 - a transformers config
        super().__init__()
        chosen = config.vision_feature_layer
        if not isinstance(chosen, int) or config.vision_feature_select_strategy != "default":
            raise ValueError("LLaVA with several feature layers or the class token is unsupported")
        vision = copy.deepcopy(config.vision_config)
        # Hidden state 0 is the embedding; layers above the chosen state are never needed.
        states = vision.num_hidden_layers + 1
        vision.num_hidden_layers = chosen if chosen >= 0 else states + chosen
        with torch.device("meta"):
            self.tower = CLIPVisionModel(vision)
            self.projector = LlavaMultiModalProjector(config)
        # Normalises the pooled output, which nobody reads.
        self.tower.set_submodule("post_layernorm", nn.Identity())
        positions = torch.arange(self.tower.embeddings.num_positions)[None]
        self.tower.embeddings.register_buffer("position_ids", positions, persistent=False)

    @property
    def prefixes(self) -> dict[str, str]:
        """Checkpoint names of the tensors in use, to names in this module."""
        layers = range(len(self.tower.encoder.layers))
        tower = ["embeddings.", "pre_layrnorm.", *(f"encoder.layers.{i}." for i in layers)]
        names = {f"model.vision_tower.{part}": f"tower.{part}" for part in tower}
        return {**names, "model.multi_modal_projector.": "projector."}

    def encode(self, pixels: list[Tensor], grids: list[tuple[int, int]]) -> list[Tensor]:
        """Encode pictures (see `VisionTower`)."""
        del grids  # always the same
        states = self.tower(torch.stack(pixels)).last_hidden_state
        return [features[None] for features in self.projector(states[:, 1:])]
