"""What is used of the RPN's last layer: its input norm, and its queries and keys (Eq. 4)."""

from typing import Literal

from torch import Tensor, nn

from qzoom.model.backbones import TextBackbone
from qzoom.model.heads import Rope, project_heads, rotate


class ScoringLayer(nn.Module):
    """The part of the RPN's last layer that is used (Eq. 4).

    Args:
        backbone: Gives the layer.
        index: Of the layer.
        extra_norm: Whether an RMSNorm of its own comes first (LLaVA's released checkpoints).
    """

    def __init__(self, backbone: TextBackbone, index: int, *, extra_norm: bool) -> None:
        super().__init__()
        layer = backbone.layer(index)
        self.input_layernorm = layer.get_submodule("input_layernorm")
        attention = dict(layer.get_submodule("self_attn").named_children())
        used = ("q_proj", "k_proj", "q_norm", "k_norm")
        self.self_attn = nn.ModuleDict({n: attention[n] for n in used if n in attention})
        self.norm = backbone.norm() if extra_norm else None
        self._head_size = backbone.head_size

    def project(self, which: Literal["q", "k"], hidden_TD: Tensor, rope: Rope | None) -> Tensor:
        """Project hidden states to queries ("q") or keys ("k"), rotated unless `rope` is None.

        Returns:
            heads_HTE: float32.
        """
        if self.norm is not None:
            hidden_TD = self.norm(hidden_TD)
        normed = self.input_layernorm(hidden_TD)
        heads_HTE = project_heads(self.self_attn, which, normed, self._head_size)
        return (heads_HTE if rope is None else rotate(heads_HTE, rope)).float()
