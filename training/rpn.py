"""Train the RPN on true evidence boxes.

Temporary: SD-RPN distils its labels from the model's own attention, without boxes.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from qzoom.model.geometry import bounding_box, smooth
from training.boxes import contains, evidence_cells, to_pixels
from training.branch_loop import BranchTrainer
from training.branches import Rpn, SplitStates
from training.layout import CellBox
from training.pixels import Grid


def cell_labels(states: SplitStates) -> tuple[Tensor, Tensor]:
    """What the map should show.

    Returns:
        (labels [Q, V] in {0, 1}, valid [Q, V]); all zero where the whole picture is the evidence.
    """
    labels = torch.zeros(len(states.questions), states.num_cells)
    valid = torch.zeros_like(labels, dtype=torch.bool)
    for row, question in enumerate(states.questions):
        rows, cols = states.grids[row]
        valid[row, : rows * cols] = True
        if question.evidence_px is not None:
            box = evidence_cells(question.evidence_px, states.sizes[row], (rows, cols))
            labels[row, : rows * cols].view(rows, cols)[box[1] : box[3], box[0] : box[2]] = 1
    return labels, valid


def propose(logits_V: Tensor, grid: Grid, tau: float) -> CellBox | None:
    """Box of one question, by the rule that serving uses (Q-Zoom, Eq. (6)-(7))."""
    rows, cols = grid
    heat = smooth(torch.sigmoid(logits_V[: rows * cols]).view(rows, cols))
    return bounding_box((heat > tau).numpy())


class RpnTrainer(BranchTrainer):
    """Binary cross-entropy on the coarse cells."""

    name = "rpn"
    branch: Rpn

    def build(self) -> Rpn:
        """An RPN that starts as layers B+1..B+R."""
        recipe = self.recipe
        return Rpn(self.forward.model, recipe.split_layer, recipe.branch_depth)

    def loss(self, states: SplitStates) -> Tensor:
        """Mean loss over the cells of all questions."""
        labels, valid = cell_labels(states)
        logits = self.branch.logits(self.forward, states)
        return F.binary_cross_entropy_with_logits(logits[valid], labels[valid])

    def measure(self, states: SplitStates) -> dict[str, tuple[float, int]]:
        """Evidence inside the crop, its centre inside, and the crop's area, on detail questions."""
        logits = self.branch.logits(self.forward, states)
        count, whole, centre, area, found = 0, 0, 0, 0.0, 0
        for row, question in enumerate(states.questions):
            box = question.evidence_px
            if not question.needs_detail or box is None:
                continue
            count += 1
            grid, size = states.grids[row], states.sizes[row]
            cells = propose(logits[row], grid, self.recipe.tau_roi)
            if cells is None:
                continue
            crop = to_pixels(cells, size, grid)
            x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            found += 1
            whole += contains(crop, box)
            centre += contains(crop, (x, y, x, y))
            area += (crop[2] - crop[0]) * (crop[3] - crop[1]) / (size[0] * size[1])
        return {
            "evidence inside": (whole, count),
            "centre inside": (centre, count),
            "mean area": (area, found),
            "no box": (count - found, count),
        }
