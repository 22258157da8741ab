"""Batched forward passes over a transformers Qwen2.5-VL's own parameters, for training.

transformers runs the vision tower window by window and picture by picture; here pictures of unequal
grids are padded and windows become masks. The numbers are the same (tests compare both).

Shapes: N pictures, P patches (padded), V visual tokens, R samples, T tokens, D hidden, H heads.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 -- the field's name for it
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLTextConfig
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig


def _norm(x: Tensor, module: nn.Module) -> Tensor:
    weight = cast(Tensor, module.weight)
    return F.rms_norm(x, (x.shape[-1],), weight, cast(float, module.variance_epsilon))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


def _swiglu(x: Tensor, mlp: nn.Module) -> Tensor:
    gate, up, down = (cast(nn.Linear, getattr(mlp, f"{n}_proj")) for n in ("gate", "up", "down"))
    return cast(Tensor, down(F.silu(gate(x)) * up(x)))


def same_group_mask(group_NP: Tensor) -> Tensor:
    """Additive mask [N, 1, P, P] that lets equal group numbers see each other."""
    same = group_NP[:, None, :, None] == group_NP[:, None, None, :]
    return torch.zeros(same.shape).masked_fill_(~same, float("-inf"))


class VisionForward:
    """The vision tower over padded pictures."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration) -> None:
        self.tower = model.model.visual
        self.config = cast(Qwen2_5_VLVisionConfig, model.config.vision_config)

    def __call__(self, patches_NPX: Tensor, position_NP2: Tensor, window_NP: Tensor) -> Tensor:
        """Encode pictures.

        Args:
            patches_NPX: Patches, X = 588 (one frame), zero where padded.
            position_NP2: Row and column of each patch.
            window_NP: Number of the attention window, -1 where padded.

        Returns:
            Visual tokens [N, P / 4, D]; those of padding mean nothing.
        """
        weight = self.tower.patch_embed.proj.weight.sum(dim=2).flatten(1)
        x = F.linear(patches_NPX, weight)
        inv_freq = self.tower.rotary_pos_emb.inv_freq
        angle = (position_NP2[..., None].float() * inv_freq).flatten(-2)
        angle = torch.cat((angle, angle), dim=-1)[:, None]
        cos, sin = angle.cos(), angle.sin()
        window = same_group_mask(window_NP)
        full = same_group_mask(window_NP.clamp(max=0)) if (window_NP < 0).any() else None
        for index, block in enumerate(self.tower.blocks):
            mask = full if index in self.config.fullatt_block_indexes else window
            x = x + self._attend(_norm(x, block.norm1), block.attn, (cos, sin), mask)
            x = x + _swiglu(_norm(x, block.norm2), block.mlp)
        merger = self.tower.merger
        x = _norm(x, merger.ln_q).reshape(x.shape[0], x.shape[1] // 4, -1)
        return cast(Tensor, merger.mlp(x))

    def _attend(
        self, x: Tensor, attn: nn.Module, rope: tuple[Tensor, Tensor], mask: Tensor | None
    ) -> Tensor:
        packed: Tensor = cast(nn.Linear, attn.qkv)(x)
        qkv = packed.view(*packed.shape[:2], 3, self.config.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k = _rotate(q, *rope), _rotate(k, *rope)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return cast(Tensor, cast(nn.Linear, attn.proj)(out.transpose(1, 2).flatten(2)))


class TextForward:
    """Decoder layers over samples with any attention mask and float positions."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration) -> None:
        self.text = model.model.language_model
        self.lm_head = model.lm_head
        config = cast(Qwen2_5_VLTextConfig, model.config.text_config)
        self.num_heads = config.num_attention_heads
        self.num_kv_heads = config.num_key_value_heads or self.num_heads
        section = cast(dict[str, Any], config.rope_parameters)["mrope_section"]
        self.axis = torch.arange(3).repeat_interleave(torch.tensor(section))

    def rope(self, position_3RT: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine [R, 1, T, E] of M-RoPE at float positions."""
        angle = position_3RT[self.axis].permute(1, 2, 0) * self.text.rotary_emb.inv_freq
        angle = torch.cat((angle, angle), dim=-1)[:, None]
        return angle.cos(), angle.sin()

    def layer(
        self, layer: nn.Module, x_RTD: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor
    ) -> Tensor:
        """One decoder layer (backbone or branch)."""
        attn = cast(nn.Module, layer.self_attn)
        q, k = self.query_key(layer, x_RTD, rope)
        normed = _norm(x_RTD, cast(nn.Module, layer.input_layernorm))
        v = self._heads(cast(nn.Linear, attn.v_proj)(normed), self.num_kv_heads)
        groups = self.num_heads // self.num_kv_heads
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x_RTD = x_RTD + cast(nn.Linear, attn.o_proj)(out.transpose(1, 2).flatten(2))
        after = _norm(x_RTD, cast(nn.Module, layer.post_attention_layernorm))
        return x_RTD + _swiglu(after, cast(nn.Module, layer.mlp))

    def query_key(
        self, layer: nn.Module, x_RTD: Tensor, rope: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Rotated queries [R, H, T, E] and keys [R, K, T, E] of a layer."""
        attn = cast(nn.Module, layer.self_attn)
        normed = _norm(x_RTD, cast(nn.Module, layer.input_layernorm))
        q = self._heads(cast(nn.Linear, attn.q_proj)(normed), self.num_heads)
        k = self._heads(cast(nn.Linear, attn.k_proj)(normed), self.num_kv_heads)
        return _rotate(q, *rope), _rotate(k, *rope)

    def layers(
        self, x_RTD: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor, first: int, last: int
    ) -> Tensor:
        """Backbone layers first..last, counted from 1."""
        for layer in self.text.layers[first - 1 : last]:
            x_RTD = self.layer(layer, x_RTD, rope, mask)
        return x_RTD

    def logits(self, x: Tensor) -> Tensor:
        """Logits of final hidden states."""
        return cast(Tensor, self.lm_head(_norm(x, self.text.norm)))

    @staticmethod
    def _heads(x: Tensor, count: int) -> Tensor:
        return x.view(*x.shape[:2], count, -1).transpose(1, 2)
