"""Where should we look? The region proposal network (Eq. 4-7).

R - 1 decoder layers over the states after layer B; of the R-th only the input norm and the query
and key projections are used, as a dot product between the last token and the visual tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qzoom.contracts.stages import ImageSpan, Proposal
from qzoom.model.attention import PackedAttention
from qzoom.model.backbones import TextBackbone, text_backbone
from qzoom.model.config import QZoomConfig
from qzoom.model.geometry import corner_mask, smooth
from qzoom.model.heads import Rope, project_heads, rotate
from qzoom.model.loading import Checkpoint
from qzoom.model.parameters import assign_tensors
from qzoom.model.regions import RegionFinder
from qzoom.model.stack import DecoderStack, TokenLayerCounter, load_layers
from qzoom.model.state import PrefillState

_SINK_LOGIT = float(np.log(3.0))
"""Cells that the first token attends to with sigmoid(score) of 0.75 or more are sinks."""


@dataclass(frozen=True, slots=True)
class RpnInput:
    """One request.

    Attributes:
        state: State after layer B.
        tau_roi: Threshold of the smoothed map; None takes the checkpoint's.
    """

    state: PrefillState
    tau_roi: float | None = None


@dataclass(frozen=True, slots=True)
class RoiMap:
    """What the RPN thinks of one picture.

    Attributes:
        span: The picture.
        logits: Scores before the sigmoid [H, W], float32.
        smoothed: After sigmoid, sink mask and blur [H, W], float32, in [0, 1].
    """

    span: ImageSpan
    logits: NDArray[np.float32]
    smoothed: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RpnOutput:
    """One request.

    Attributes:
        proposal: Where to look; None if no cell passed the threshold.
        tau_roi: The threshold that was used.
        heatmap: Smoothed map of the chosen picture, or of the one with the highest score; None
            for a prompt without pictures.
        heatmap_image: Index of that picture in the request, 0 without pictures.
        maps: One per picture, in the order of the sequence.
    """

    proposal: Proposal | None
    tau_roi: float
    heatmap: NDArray[np.float32] | None
    heatmap_image: int
    maps: tuple[RoiMap, ...]


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


class RegionProposer(nn.Module):
    """The RPN's branch and what follows it, up to a box in source pixels.

    Args:
        backbone: Of the checkpoint.
        config: Of the checkpoint.
        finder: Turns maps into boxes.
        device: Where to run.
        counter: Where to count (token, layer) pairs.
    """

    def __init__(
        self,
        backbone: TextBackbone,
        config: QZoomConfig,
        finder: RegionFinder,
        *,
        device: torch.device,
        counter: TokenLayerCounter | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.counter = counter
        self.finder = finder
        self._backbone, self._device = backbone, device
        backbone.check(config)
        last = config.split_layer + config.rpn_depth - 1
        self.rotary = backbone.rotary(device)
        self.layers = DecoderStack(backbone, range(config.split_layer, last), name="rpn")
        self.scoring = ScoringLayer(backbone, last, extra_norm=config.rpn_extra_norm)

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        counter: TokenLayerCounter | None = None,
    ) -> Self:
        """Read this stage's tensors, and no others.

        Raises:
            ValueError: If the checkpoint has no RPN or does not fit its own configuration.
        """
        config = checkpoint.qzoom
        if not config.has_rpn:
            raise ValueError(f"{checkpoint.path} has no RPN")
        device = torch.device(device)
        backbone = text_backbone(checkpoint.family, checkpoint.hf_config)
        finder = RegionFinder(config, checkpoint.family, checkpoint.hf_config)
        stage = cls(backbone, config, finder, device=device, counter=counter)
        place = "qzoom.rpn.layers."
        load_layers(stage.layers, checkpoint, place, first=0, device=device, dtype=dtype)
        scoring = f"{place}{config.rpn_depth - 1}."
        names = [f"{scoring}{name}" for name, _ in stage.scoring.named_parameters()]
        tensors = checkpoint.tensors([name for name in names if not name.endswith(".norm.weight")])
        if stage.scoring.norm is not None:
            weight = checkpoint.tensors(["qzoom.rpn.norm.weight"])["qzoom.rpn.norm.weight"]
            tensors[f"{scoring}norm.weight"] = weight
        assign_tensors(stage.scoring, tensors, scoring, device=device, dtype=dtype)
        return stage

    @torch.inference_mode()
    def run(self, inputs: Sequence[RpnInput]) -> list[RpnOutput]:
        """Propose regions for requests of any lengths in one pass.

        In a conversation with several pictures, the one whose smoothed map peaks highest (and
        holds a region) is chosen.
        """
        prompts = [item.state.prompt for item in inputs]
        hidden_TD = torch.cat([item.state.hidden for item in inputs]).to(self._device)
        positions = np.concatenate([prompt.positions for prompt in prompts], axis=1)
        rope = self._backbone.rope(
            self.rotary, positions, dtype=hidden_TD.dtype, device=self._device
        )
        lengths = [len(prompt.ids) for prompt in prompts]
        attention = PackedAttention(lengths, device=self._device)
        hidden_TD = self.layers(hidden_TD, rope, attention, counter=self.counter)
        outputs = []
        bounds = pairwise(np.cumsum([0, *lengths]).tolist())
        for item, (start, end) in zip(inputs, bounds, strict=True):
            own_rope = (rope[0][start:end], rope[1][start:end])
            maps = self._maps(item.state.prompt.spans, hidden_TD[start:end], own_rope)
            outputs.append(self._propose(maps, item.tau_roi))
        return outputs

    def _maps(
        self, spans: Sequence[ImageSpan], hidden_TD: Tensor, rope: Rope
    ) -> tuple[RoiMap, ...]:
        rotated = rope if self.config.rpn_rope else None
        q_HE = self.scoring.project("q", hidden_TD[-1:], _rows(rotated, slice(-1, None)))[:, 0]
        maps = []
        for span in spans:
            height, width = span.grid
            at = slice(span.start, span.start + height * width)
            k_KVE = self.scoring.project("k", hidden_TD[at], _rows(rotated, at))
            logits_V = self._scores(q_HE, k_KVE)
            keep_V = self._keep(span, hidden_TD, rotated, k_KVE)
            scores_V = torch.sigmoid(logits_V) * keep_V.to(logits_V)
            smoothed = smooth(scores_V.view(span.grid)).cpu().numpy()
            maps.append(RoiMap(span, logits_V.view(span.grid).cpu().numpy(), smoothed))
        return tuple(maps)

    def _scores(self, q_HE: Tensor, k_KVE: Tensor) -> Tensor:
        return cell_scores(self.config, q_HE[:, None], k_KVE)[0]

    def _keep(self, span: ImageSpan, hidden_TD: Tensor, rope: Rope | None, k_KVE: Tensor) -> Tensor:
        """Mark the cells that are no attention sinks."""
        if self.config.sink_mask == "corner":
            return torch.from_numpy(corner_mask(span.grid)).flatten()
        if self.config.sink_mask == "none":
            return torch.ones(k_KVE.shape[1], dtype=torch.bool)
        # The published code lets head 0 of the first token ask the keys of all heads.
        q_HE = self.scoring.project("q", hidden_TD[:1], _rows(rope, slice(0, 1)))[:, 0]
        return self._scores(q_HE[:1].expand_as(q_HE), k_KVE) < _SINK_LOGIT

    def _propose(self, maps: tuple[RoiMap, ...], tau_roi: float | None) -> RpnOutput:
        tau = self.config.tau_roi if tau_roi is None else tau_roi
        by_peak = sorted(maps, key=lambda m: -float(m.smoothed.max()))
        for roi_map in by_peak:
            proposal = self.finder.find(roi_map.span, roi_map.smoothed, tau)
            if proposal is not None:
                return RpnOutput(proposal, tau, roi_map.smoothed, roi_map.span.image, maps)
        if not by_peak:
            return RpnOutput(None, tau, None, 0, maps)
        return RpnOutput(None, tau, by_peak[0].smoothed, by_peak[0].span.image, maps)


def cell_scores(config: QZoomConfig, q_HQE: Tensor, k_KVE: Tensor) -> Tensor:
    """Average the heads' dot products (Eq. 5); heads that share a key see the same one.

    Args:
        config: How they are averaged and scaled.
        q_HQE: Of the last tokens of Q queries about one picture.
        k_KVE: Of its visual tokens.

    Returns:
        logits_QV: Before the sigmoid.
    """
    k_HVE = k_KVE.repeat_interleave(len(q_HQE) // len(k_KVE), dim=0)
    scores_HQV = torch.einsum("hqe,hve->hqv", q_HQE, k_HVE)
    if not config.rpn_multi_head:
        return scores_HQV.sum(dim=0)
    scale = q_HQE.shape[-1] ** -0.5 if config.rpn_scale else 1.0
    return scores_HQV.mean(dim=0) * scale


def _rows(rope: Rope | None, at: slice) -> Rope | None:
    return None if rope is None else (rope[0][at], rope[1][at])
