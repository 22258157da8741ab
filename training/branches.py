"""The RPN's and the gate's branches: layers of their own on the frozen states after layer B.

Both start as copies of layers B+1..B+R. Checkpoint keys (file qzoom.safetensors):
`qzoom.{rpn,gate}.layers.{i}.*`, `qzoom.gate.head.{weight,bias}`.

Shapes: R samples, T tokens, D hidden, Q questions (packed over samples), V visual tokens (padded).
"""

import copy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLTextConfig

from qzoom.data.questions import Question
from training.batch import Batch, Forward
from training.layout import IGNORE
from training.pixels import Grid


class Branch(nn.Module):
    """Decoder layers copied from above the split.

    Args:
        model: The trained base.
        split_layer: B.
        depth: R.
    """

    def __init__(
        self, model: Qwen2_5_VLForConditionalGeneration, split_layer: int, depth: int
    ) -> None:
        super().__init__()
        above = model.model.language_model.layers[split_layer : split_layer + depth]
        self.layers = nn.ModuleList([copy.deepcopy(layer) for layer in above])
        self.requires_grad_(True)


class Rpn(Branch):
    """Which coarse cells hold the evidence? (Q-Zoom, Eq. (4)-(5))."""

    def logits(self, forward: Forward, states: "SplitStates") -> Tensor:
        """Score cells for every question.

        Returns:
            logits_QV: Mean over heads of the last layer's q.k / sqrt(head size), query at the last
            prompt token, keys at the image tokens; -inf never, padding is masked by the caller.
        """
        x, text = states.hidden, forward.text
        for layer in self.layers[:-1]:
            x = text.layer(layer, x, states.rope, states.mask)
        q, k = text.query_key(self.layers[-1], x, states.rope)
        row = states.rows
        query = q.transpose(1, 2)[row, states.queries].mean(dim=1)
        keys = k.mean(dim=1)[:, states.image_start : states.image_start + states.num_cells]
        scores: Tensor = torch.einsum("qe,qve->qv", query, keys[row])
        scale: float = query.shape[-1] ** -0.5
        return scores * scale


class Gate(Branch):
    """Does the question need a closer look? (Q-Zoom, Eq. (3))."""

    def __init__(
        self, model: Qwen2_5_VLForConditionalGeneration, split_layer: int, depth: int
    ) -> None:
        super().__init__(model, split_layer, depth)
        self.head = nn.Linear(cast(Qwen2_5_VLTextConfig, model.config.text_config).hidden_size, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def logits(self, forward: Forward, states: "SplitStates") -> Tensor:
        """Logit of p(refine) for every question [Q]."""
        x = states.hidden
        for layer in self.layers:
            x = forward.text.layer(layer, x, states.rope, states.mask)
        scores: Tensor = self.head(x[states.rows, states.queries])
        return scores.squeeze(-1)


@dataclass(frozen=True, slots=True)
class SplitStates:
    """Coarse prompts after layer B, with many questions per picture."""

    hidden: Tensor
    """[R, T, D]"""
    rope: tuple[Tensor, Tensor]
    mask: Tensor
    rows: Tensor
    """[Q] sample of each question."""
    queries: Tensor
    """[Q] index of each question's last prompt token."""
    image_start: int
    num_cells: int
    """Visual tokens of the largest picture."""
    grids: list[Grid]
    """[Q]"""
    sizes: list[tuple[int, int]]
    """[Q] (width, height) of the source."""
    questions: list[Question]
    """[Q]"""


@torch.no_grad()
def split_states(forward: Forward, batch: Batch, split_layer: int) -> SplitStates:
    """Run layers 1..B over packed coarse prompts (layout "ask").

    The samples must share their image_start, so none or all of them may have a system turn.
    """
    visual = torch.cat([forward.visual_tokens(group) for group in batch.vision])
    rope = forward.text.rope(batch.positions)
    hidden = forward.text.layers(forward.embed(batch, visual), rope, batch.mask, 1, split_layer)
    return describe(batch, hidden, rope)


def describe(batch: Batch, hidden_RTD: Tensor, rope: tuple[Tensor, Tensor]) -> SplitStates:
    """Find every question's last prompt token in states after layer B."""
    rows: list[int] = []
    queries: list[int] = []
    grids, sizes, questions = [], [], []
    for row, sample in enumerate(batch.samples):
        at = 0
        for index, segment in enumerate(sample.tree.segments):
            if index in sample.asked:
                first = next(i for i, label in enumerate(segment.labels) if label != IGNORE)
                rows.append(row)
                queries.append(at + first)
                grids.append(sample.tree.grid)
                sizes.append(sample.size_px)
                questions.append(sample.asked[index])
            at += len(segment.ids)
    starts = {sample.tree.image_start for sample in batch.samples}
    assert len(starts) == 1, starts
    return SplitStates(
        hidden=hidden_RTD,
        rope=rope,
        mask=batch.mask,
        rows=torch.tensor(rows),
        queries=torch.tensor(queries),
        image_start=starts.pop(),
        num_cells=max(grid[0] * grid[1] for grid in grids),
        grids=grids,
        sizes=sizes,
        questions=questions,
    )
