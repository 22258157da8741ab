"""What must the method know about a backbone? One small object per family.

Decoder layers, norms, rotary embeddings and vision towers are transformers' own modules; an
adapter says which, and how they are called.
"""

import copy
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qzoom.model.attention import ATTENTION_NAME
from qzoom.model.config import QZoomConfig
from qzoom.model.heads import Rope


@dataclass(frozen=True, slots=True)
class TextBackbone:
    """The language model of one checkpoint.

    Attributes:
        config: transformers' text config, with our attention function chosen.
        layer_type: Class of a decoder layer.
        norm_type: Class of the RMSNorm.
        rotary_type: Class of the rotary embedding.
        mrope: Whether positions have three axes (t, h, w).
        num_deepstack: Decoder layers that visual features are added after.
    """

    config: Any
    layer_type: type[nn.Module]
    norm_type: type[nn.Module]
    rotary_type: type[nn.Module]
    mrope: bool
    num_deepstack: int = 0

    @classmethod
    def create(cls, config: Any, **values: Any) -> Self:  # noqa: ANN401 - a transformers config
        """Adapt a transformers text config, which is copied.

        Raises:
            ValueError: If the config asks for sliding-window attention.
        """
        if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
            raise ValueError("sliding-window attention is not supported")
        config = copy.deepcopy(config)
        config._attn_implementation = ATTENTION_NAME
        return cls(config, **values)

    @property
    def num_layers(self) -> int:
        """L."""
        return int(self.config.num_hidden_layers)

    @property
    def hidden_size(self) -> int:
        """D."""
        return int(self.config.hidden_size)

    @property
    def num_kv_heads(self) -> int:
        """K."""
        return int(self.config.num_key_value_heads)

    @property
    def head_size(self) -> int:
        """E."""
        size = getattr(self.config, "head_dim", None)
        return int(size or self.hidden_size // self.config.num_attention_heads)

    def check(self, config: QZoomConfig) -> None:
        """Check that the method's layers exist in this model.

        Raises:
            ValueError: If B leaves no layer above it or lies below the deepstack's layers, or if
                a branch is longer than what is above B.
        """
        split, total = config.split_layer, self.num_layers
        if not max(1, self.num_deepstack) <= split < total:
            raise ValueError(
                f"split_layer is {split}, must be at least {max(1, self.num_deepstack)} and below "
                f"the number of layers, {total}"
            )
        depth = max(config.gate_depth * config.has_gate, config.rpn_depth * config.has_rpn)
        if split + depth > total:
            raise ValueError(f"a branch of {depth} layers after {split} exceeds {total} layers")

    def layer(self, index: int) -> nn.Module:
        """Make a decoder layer without memory, for its tensors to be assigned."""
        with torch.device("meta"):
            return self.layer_type(self.config, index)

    def norm(self) -> nn.Module:
        """Make an RMSNorm over the hidden size without memory."""
        with torch.device("meta"):
            return self.norm_type(self.hidden_size, eps=self.config.rms_norm_eps)

    def rotary(self, device: torch.device) -> nn.Module:
        """Make the rotary embedding; it has no parameters."""
        return self.rotary_type(self.config).to(device)

    def rope(
        self,
        rotary: nn.Module,
        positions: NDArray[np.float32],
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Rope:
        """Compute cosines and sines once per pass.

        Args:
            rotary: From `rotary`.
            positions: M-RoPE positions [3, T]; fractions are allowed.
            dtype: Of the pass.
            device: Of the pass.

        Returns:
            rope: (cos_TE, sin_TE).
        """
        at = torch.from_numpy(np.ascontiguousarray(positions)).to(device)
        like = torch.empty(0, dtype=dtype, device=device)
        cos, sin = rotary(like, at[:, None] if self.mrope else at[:1])
        return cos[0], sin[0]


class VisionTower(Protocol):
    """Vision tower and projector of one checkpoint; an `nn.Module`."""

    @property
    def prefixes(self) -> dict[str, str]:
        """Prefixes of the checkpoint's tensors in use, to prefixes in this module."""
        ...

    def encode(self, pixels: list[Tensor], grids: list[tuple[int, int]]) -> list[Tensor]:
        """Encode pictures, all in one pass.

        Args:
            pixels: Of each picture, as its processor made them.
            grids: (H, W) of each, in cells.

        Returns:
            features: [1 + deepstack levels, H * W, D] for each.
        """
        ...
