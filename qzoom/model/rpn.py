"""Where should we look? The region proposal network (Eq. 4-7).

R - 1 decoder layers over the states after layer B; of the R-th only the input norm and the query
and key projections are used, as a dot product between the last token and the visual tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qzoom.contracts.stages import ImageSpan, Proposal
from qzoom.model.attention import PackedAttention
from qzoom.model.backbones import TextBackbone, text_backbone
from qzoom.model.cache import PackedKV
from qzoom.model.config import QZoomConfig
from qzoom.model.geometry import corner_mask, smooth
from qzoom.model.heads import Rope
from qzoom.model.loading import Checkpoint
from qzoom.model.parameters import assign_tensors
from qzoom.model.regions import RegionFinder
from qzoom.model.scoring import ScoringLayer
from qzoom.model.stack import DecoderStack, TokenLayerCounter, load_layers
from qzoom.model.state import PrefillState

_SINK_LOGIT = float(np.log(3.0))
"""Cells that the first token attends to with sigmoid(score) of 0.75 or more are sinks."""


@dataclass(frozen=True, slots=True)
class RpnBlock:
    """What later questions reuse of one image block.

    Attributes:
        kv: Keys and values of the branch's layers, [R - 1, 2, K, T, E].
        keys: Keys of the scoring layer at the picture's tokens, [K, V, E], float32.
        keep: Which of the picture's cells are no attention sinks, [V], bool.
        sink_query: The first token's query, where the sinks depend on it, [H, E], float32.
    """

    kv: Tensor
    keys: Tensor
    keep: Tensor
    sink_query: Tensor | None

    @property
    def num_bytes(self) -> int:
        """Memory of all tensors."""
        tensors = (self.kv, self.keys, self.keep, self.sink_query)
        return sum(t.numel() * t.element_size() for t in tensors if t is not None)


@dataclass(frozen=True, slots=True)
class RpnInput:
    """One request.

    Attributes:
        state: State after layer B; needed from the end of the given blocks on.
        tau_roi: Threshold of the smoothed map; None takes the checkpoint's.
        past: The first blocks of the prompt, computed before for the same content. Something must
            be left behind them.
    """

    state: PrefillState
    tau_roi: float | None = None
    past: Sequence[RpnBlock] = ()

    @property
    def num_past(self) -> int:
        """Tokens of the given blocks."""
        return self.state.prompt.block_ends[len(self.past) - 1] if self.past else 0


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
        tau_roi: The threshold that the smoothed map was cut at.
        heatmap: Smoothed map of the chosen picture, or of the one with the highest score; None
            for a prompt without pictures.
        heatmap_image: Index of that picture in the request, 0 without pictures.
        maps: One per picture, in the order of the sequence.
        blocks: The prompt's image blocks, the given ones first; copies.
    """

    proposal: Proposal | None
    tau_roi: float
    heatmap: NDArray[np.float32] | None
    heatmap_image: int
    maps: tuple[RoiMap, ...]
    blocks: tuple[RpnBlock, ...] = ()


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
        prompts, pasts = [item.state.prompt for item in inputs], [i.num_past for i in inputs]
        lengths = [len(p.ids) - past for p, past in zip(prompts, pasts, strict=True)]
        assert all(length > 0 for length in lengths), "nothing is left behind the given blocks"
        parts = [i.state.hidden(i.num_past, len(i.state.prompt.ids)) for i in inputs]
        hidden_TD = torch.cat(parts).to(self._device)
        places = [p.positions[:, past:] for p, past in zip(prompts, pasts, strict=True)]
        dtype, device = hidden_TD.dtype, self._device
        rope = self._backbone.rope(
            self.rotary, np.concatenate(places, axis=1), dtype=dtype, device=device
        )
        shape_KE = (self._backbone.num_kv_heads, self._backbone.head_size)
        cached = [[block.kv for block in item.past] for item in inputs]
        store = PackedKV(self.layers.indices, shape_KE, lengths, cached, dtype=dtype, device=device)
        attention = PackedAttention(lengths, pasts=pasts, store=store, device=device)
        has_new = any(len(i.past) < len(i.state.blocks) for i in inputs)
        if has_new:
            hidden_TD = self.layers(hidden_TD, rope, attention, counter=self.counter)
        else:
            # All keys of pictures are known: only the last token still asks.
            last_RD = self.layers.last_rows(hidden_TD, rope, attention, counter=self.counter)
        outputs = []
        bounds = pairwise(np.cumsum([0, *lengths]).tolist())
        for index, (item, (start, end)) in enumerate(zip(inputs, bounds, strict=True)):
            rotated = _rows(rope, slice(start, end)) if self.config.rpn_rope else None
            blocks, last = list(item.past), slice(-1, None)
            if has_new:
                own_TD = hidden_TD[start:end]
                blocks += self._blocks(item, own_TD, rotated, store.kv[..., start:end, :])
                last_D = own_TD[last]
            else:
                last_D = last_RD[index : index + 1]
            q_HE = self.scoring.project("q", last_D, _rows(rotated, last))[:, 0]
            maps = self._maps(item.state.prompt.spans, blocks, q_HE)
            outputs.append(replace(self._propose(maps, item.tau_roi), blocks=tuple(blocks)))
        return outputs

    def _blocks(
        self, item: RpnInput, hidden_TD: Tensor, rope: Rope | None, kv: Tensor
    ) -> Iterator[RpnBlock]:
        """Keep what later questions need of the new blocks."""
        start = item.num_past
        sink_q_HE = item.past[0].sink_query if item.past else None
        if start == 0 and self.config.sink_mask not in {"corner", "none"}:
            # The published code lets head 0 of the first token ask the keys of all heads.
            sink_q_HE = self.scoring.project("q", hidden_TD[:1], _rows(rope, slice(0, 1)))[:, 0]
        first = start
        for span in item.state.prompt.spans[len(item.past) :]:
            height, width = span.grid
            end = span.start + height * width
            at = slice(span.start - start, end - start)
            k_KVE = self.scoring.project("k", hidden_TD[at], _rows(rope, at)).clone()
            own = kv[..., first - start : end - start, :].clone()
            yield RpnBlock(own, k_KVE, self._keep(span, k_KVE, sink_q_HE), sink_q_HE)
            first = end

    def _maps(
        self, spans: Sequence[ImageSpan], blocks: Sequence[RpnBlock], q_HE: Tensor
    ) -> tuple[RoiMap, ...]:
        maps = []
        for span, block in zip(spans, blocks, strict=True):
            logits_V = self._scores(q_HE, block.keys)
            scores_V = torch.sigmoid(logits_V) * block.keep.to(logits_V)
            smoothed = smooth(scores_V.view(span.grid)).cpu().numpy()
            maps.append(RoiMap(span, logits_V.view(span.grid).cpu().numpy(), smoothed))
        return tuple(maps)

    def _scores(self, q_HE: Tensor, k_KVE: Tensor) -> Tensor:
        return cell_scores(self.config, q_HE[:, None], k_KVE)[0]

    def _keep(self, span: ImageSpan, k_KVE: Tensor, sink_q_HE: Tensor | None) -> Tensor:
        """Mark the cells that are no attention sinks."""
        if self.config.sink_mask == "corner":
            return torch.from_numpy(corner_mask(span.grid)).flatten()
        if self.config.sink_mask == "none":
            return torch.ones(k_KVE.shape[1], dtype=torch.bool)
        assert sink_q_HE is not None, "the first token was seen with the first block"
        return self._scores(sink_q_HE[:1].expand_as(sink_q_HE), k_KVE) < _SINK_LOGIT

    def _propose(self, maps: tuple[RoiMap, ...], tau_roi: float | None) -> RpnOutput:
        tau = self.config.tau_roi if tau_roi is None else tau_roi
        by_peak = sorted(maps, key=lambda m: -float(m.smoothed.max()))
        for roi_map in by_peak:
            level = self._level(roi_map, tau)
            proposal = self.finder.find(roi_map.span, roi_map.smoothed, level)
            if proposal is not None:
                return RpnOutput(proposal, level, roi_map.smoothed, roi_map.span.image, maps)
        if not by_peak:
            return RpnOutput(None, tau, None, 0, maps)
        first = by_peak[0]
        return RpnOutput(None, self._level(first, tau), first.smoothed, first.span.image, maps)

    def _level(self, roi_map: RoiMap, tau: float) -> float:
        """What the smoothed map is cut at."""
        if self.config.roi_threshold == "absolute":
            return tau
        return tau * float(roi_map.smoothed.max())


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
