"""Train the gate on labels known from the print size.

Temporary: the paper's labels come from the model's own answers over a resolution trajectory.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from training.branch_loop import BranchTrainer
from training.branches import Gate, SplitStates


class GateTrainer(BranchTrainer):
    """Binary cross-entropy on "this question needs detail"."""

    name = "gate"
    branch: Gate

    def build(self) -> Gate:
        """A gate that starts as layers B+1..B+R."""
        recipe = self.recipe
        return Gate(self.forward.model, recipe.split_layer, recipe.branch_depth)

    def loss(self, states: SplitStates) -> Tensor:
        """Mean loss over questions."""
        labels = torch.tensor([float(q.needs_detail) for q in states.questions])
        return F.binary_cross_entropy_with_logits(self.branch.logits(self.forward, states), labels)

    def measure(self, states: SplitStates) -> dict[str, tuple[float, int]]:
        """Detail questions sent to zoom; large print and coarse ones kept direct."""
        probability = torch.sigmoid(self.branch.logits(self.forward, states)).tolist()
        figures = {"recall detail": (0.0, 0), "direct print": (0.0, 0), "direct coarse": (0.0, 0)}
        for p, question in zip(probability, states.questions, strict=True):
            zooms = p >= self.recipe.tau_gate
            name = "recall detail" if question.needs_detail else f"direct {question.group}"
            hits, count = figures[name]
            figures[name] = (hits + (zooms == question.needs_detail), count + 1)
        return figures
