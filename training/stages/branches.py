"""RPN and gate as they are trained: the served modules, started from layers B+1..B+R."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qzoom.model.backbones import text_backbone
from qzoom.model.loading import Checkpoint, keys
from qzoom.model.parameters import assign_tensors
from qzoom.model.rpn import cell_scores
from qzoom.model.scoring import ScoringLayer
from qzoom.model.stack import DecoderStack, load_layers
from training.stages.passes import run_layers
from training.stages.states import PackedStates

_BASE_LAYERS = "model.language_model.layers."
_BASE_NORM = "model.language_model.norm."
_HEAD_STD = 0.01


class RpnBranch(nn.Module):
    """R - 1 decoder layers and the scoring part of the R-th (Eq. 4-5).

    Args:
        checkpoint: Gives the first weights: its RPN if `from_rpn`, else its layers B+1..B+R.
        device: Where to train.
        from_rpn: Go on from an RPN (the published stage 2.5).
        recompute: See `run_layers`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: torch.device,
        from_rpn: bool = False,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        config = checkpoint.qzoom
        backbone = text_backbone(checkpoint.family, checkpoint.hf_config)
        split, last = config.split_layer, config.split_layer + config.rpn_depth - 1
        backbone_layers = backbone.num_layers
        if last >= backbone_layers:
            raise ValueError(f"a branch of {config.rpn_depth} layers exceeds {backbone_layers}")
        self.config, self._recompute = config, recompute
        self.stack = DecoderStack(backbone, range(split, last), name="rpn")
        self.scoring = ScoringLayer(backbone, last, extra_norm=config.rpn_extra_norm)
        place = f"{keys.RPN_LAYERS}." if from_rpn else _BASE_LAYERS
        first = 0 if from_rpn else split
        dtype = torch.float32
        load_layers(self.stack, checkpoint, place, first=first, device=device, dtype=dtype)
        scoring = f"{place}{first + config.rpn_depth - 1}."
        names = [f"{scoring}{n}" for n, _ in self.scoring.named_parameters() if n != "norm.weight"]
        tensors = checkpoint.tensors(names)
        if self.scoring.norm is not None:
            norm = f"{keys.RPN_NORM}.weight" if from_rpn else f"{_BASE_NORM}weight"
            tensors[f"{scoring}norm.weight"] = checkpoint.tensors([norm])[norm]
        assign_tensors(self.scoring, tensors, scoring, device=device, dtype=dtype)
        self.requires_grad_(True)

    def canonical(self) -> dict[str, nn.Parameter]:
        """Parameters by the names under which a checkpoint stores them."""
        found = _stack_names(self.stack, keys.RPN_LAYERS)
        last = f"{keys.RPN_LAYERS}.{self.config.rpn_depth - 1}."
        for name, parameter in self.scoring.named_parameters():
            stored = f"{keys.RPN_NORM}.weight" if name == "norm.weight" else last + name
            found[stored] = parameter
        return found

    def forward(self, states: PackedStates) -> list[Tensor]:
        """Score the cells of every question.

        Returns:
            logits_QV: One per picture, in the order of its questions.
        """
        hidden = run_layers(
            self.stack.layers,
            states.hidden,
            states.rope,
            states.attention,
            recompute=self._recompute,
        )
        cos, sin = states.rope
        rotated = self.config.rpn_rope
        found = []
        for span, start, asked in states.pictures:
            rows = states.rows[asked.start : asked.stop]
            at = slice(start, start + span.grid[0] * span.grid[1])
            q_rope = (cos[rows], sin[rows]) if rotated else None
            k_rope = (cos[at], sin[at]) if rotated else None
            q_HQE = self.scoring.project("q", hidden[rows], q_rope)
            k_KVE = self.scoring.project("k", hidden[at], k_rope)
            found.append(cell_scores(self.config, q_HQE, k_KVE))
        return found


class GateBranch(nn.Module):
    """R decoder layers and a linear head on the last query token's state (Eq. 3).

    Args:
        checkpoint: Gives layers B+1..B+R; the head starts near zero.
        device: Where to train.
        seed: Of the head.
        recompute: See `run_layers`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: torch.device,
        seed: int = 0,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        config = checkpoint.qzoom
        backbone = text_backbone(checkpoint.family, checkpoint.hf_config)
        split = config.split_layer
        self._recompute = recompute
        self.stack = DecoderStack(backbone, range(split, split + config.gate_depth), name="gate")
        load_layers(self.stack, checkpoint, _BASE_LAYERS, device=device, dtype=torch.float32)
        self.head = nn.Linear(backbone.hidden_size, 1)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.head.weight.normal_(std=_HEAD_STD, generator=generator)
            self.head.bias.zero_()
        self.head.to(device)
        self.requires_grad_(True)

    def canonical(self) -> dict[str, nn.Parameter]:
        """Parameters by the names under which a checkpoint stores them."""
        head = {f"{keys.GATE_HEAD}.{n}": p for n, p in self.head.named_parameters()}
        return _stack_names(self.stack, keys.GATE_LAYERS) | head

    def forward(self, states: PackedStates) -> Tensor:
        """Logit of p(refine) of every question [Q]."""
        hidden = run_layers(
            self.stack.layers,
            states.hidden,
            states.rope,
            states.attention,
            recompute=self._recompute,
        )
        logits: Tensor = self.head(hidden[states.rows])
        return logits.float()[:, 0]


def _stack_names(stack: DecoderStack, place: str) -> dict[str, nn.Parameter]:
    return {
        f"{place}.{number}.{name}": parameter
        for number, layer in enumerate(stack.layers)
        for name, parameter in layer.named_parameters()
    }


def by_picture(pictures: Sequence[int], numbers: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Samples of a batch by picture, in order."""
    groups: dict[int, list[int]] = {}
    for number in numbers:
        groups.setdefault(pictures[number], []).append(number)
    return list(groups.items())
