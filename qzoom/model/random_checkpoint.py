"""Small checkpoints with random weights, for tests, benchmarks and trying things out.

Complete folders with tokenizer, chat template and processor file, in our own format or in the
layout in which the authors released theirs. The weights are scaled so that gate scores lie
around one half and differ between questions, and the RPN's maps have hills.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qzoom.model.config import Family, Preset, QZoomConfig
from qzoom.model.images import default_settings
from qzoom.model.loading import keys
from qzoom.model.loading.hf_config import base_shapes
from qzoom.model.loading.writer import OwnFormat, write_checkpoint
from qzoom.model.random_configs import ModelSize, random_config
from qzoom.model.random_released import write_released
from qzoom.model.random_tokenizer import random_tokenizer

__all__ = ["Layout", "ModelSize", "RandomModel", "random_model", "write_random_checkpoint"]

Layout = Literal["own", "released"]

_SCORING_GAIN = 3.0
"""Gain of the RPN's last queries and keys: logits of several units, so that maps have hills."""


@dataclass(frozen=True, slots=True)
class RandomModel:
    """Configuration and tokenizer; weights follow from the seed.

    Attributes:
        family: Of the backbone.
        hf_config: Of the base model.
        qzoom: Variant of the method.
        tokenizer: A small one of the family's class.
        seed: Equal seeds give equal weights.
    """

    family: Family
    hf_config: PreTrainedConfig
    qzoom: QZoomConfig
    tokenizer: PreTrainedTokenizerBase
    seed: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor by canonical name, dead weights of the RPN included."""
        base = base_shapes(self.hf_config)
        stem = "model.language_model.layers.0."
        layer = {n.removeprefix(stem): s for n, s in base.items() if n.startswith(stem)}
        shapes = dict(base)
        hidden = self.hf_config.get_text_config().hidden_size
        for branch, depth in (
            (keys.RPN_LAYERS, self.qzoom.rpn_depth if self.qzoom.has_rpn else 0),
            (keys.GATE_LAYERS, self.qzoom.gate_depth if self.qzoom.has_gate else 0),
        ):
            shapes |= {f"{branch}.{i}.{n}": s for i in range(depth) for n, s in layer.items()}
        if self.qzoom.has_rpn and self.qzoom.rpn_extra_norm:
            shapes[f"{keys.RPN_NORM}.weight"] = (hidden,)
        if self.qzoom.has_gate:
            shapes |= {f"{keys.GATE_HEAD}.weight": (1, hidden), f"{keys.GATE_HEAD}.bias": (1,)}
        if self.hf_config.tie_word_embeddings:
            del shapes[keys.LM_HEAD]
        return shapes

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Draw one tensor, float32 values that bfloat16 holds exactly."""
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + self.seed)
        value = torch.randn(shape, generator=generator)
        is_norm = "norm" in name or ".ln_q" in name
        if name.endswith("bias"):
            value *= 0.05
        elif is_norm:
            value = 1 + 0.1 * value
        elif len(shape) > 1 and "embed" not in name:
            value *= value[0].numel() ** -0.5
        last = f"{keys.RPN_LAYERS}.{self.qzoom.rpn_depth - 1}.self_attn."
        if name.startswith((f"{last}q_", f"{last}k_")) and not name.endswith("bias"):
            value *= _SCORING_GAIN
        return value.to(torch.bfloat16).float()

    def tensors(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Draw tensors by canonical name."""
        shapes = self.shapes()
        return {name: self.tensor(name, shapes[name]) for name in names}


def random_model(
    family: Family,
    *,
    preset: Preset = "paper",
    size: ModelSize | None = None,
    seed: int = 0,
    is_tied: bool = False,
    **qzoom: Any,  # noqa: ANN401 - fields of QZoomConfig
) -> RandomModel:
    """Describe a random model.

    Args:
        family: Of the backbone.
        preset: Variant of the method.
        size: None takes the smallest.
        seed: Of the weights.
        is_tied: Whether the output head shares the embeddings.
        **qzoom: Fields of QZoomConfig that replace the preset's.
    """
    size = size or ModelSize()
    tokenizer = random_tokenizer(family)
    depths = {"gate_depth": size.branch_depth, "rpn_depth": size.branch_depth}
    config = QZoomConfig.preset(preset, family, split_layer=size.split_layer, **{**depths, **qzoom})
    hf_config = random_config(family, size, tokenizer, is_tied=is_tied)
    return RandomModel(family, hf_config, config, tokenizer, seed)


def write_random_checkpoint(
    folder: Path,
    family: Family,
    *,
    layout: Layout = "own",
    preset: Preset | None = None,
    size: ModelSize | None = None,
    seed: int = 0,
    is_tied: bool = False,
    **qzoom: Any,  # noqa: ANN401 - fields of QZoomConfig
) -> RandomModel:
    """Write a random checkpoint folder.

    Args:
        folder: Made if needed.
        family: Of the backbone.
        layout: Our own format, or the authors' (which says only what their keys can say).
        preset: None takes `paper` for our own format and `released` for the authors'.
        size: None takes the smallest.
        seed: Equal seeds give equal weights.
        is_tied: Whether the output head shares the embeddings.
        **qzoom: Fields of QZoomConfig that replace the preset's.

    Returns:
        model: What was written.
    """
    chosen = preset or ("paper" if layout == "own" else "released")
    model = random_model(family, preset=chosen, size=size, seed=seed, is_tied=is_tied, **qzoom)
    folder.mkdir(parents=True, exist_ok=True)
    shapes = model.shapes()
    if layout == "released":
        write_released(
            folder,
            family,
            model.hf_config,
            model.qzoom,
            model.tokenizer,
            model.tensors(list(shapes)),
        )
        return model
    description = OwnFormat(
        family=family,
        hf_config=model.hf_config,
        qzoom=model.qzoom,
        eos_ids=(int(model.tokenizer.eos_token_id),),
        preprocessor_config=default_settings(family, model.hf_config.vision_config, model.qzoom),
        tokenizer=model.tokenizer,
    )
    num_bytes = {name: 4 * torch.Size(shape).numel() for name, shape in shapes.items()}
    write_checkpoint(folder, description, num_bytes, model.tensors)
    return model
