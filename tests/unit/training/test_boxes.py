import random

import pytest
import torch

from qzoom.model.geometry import bounding_box, smooth
from training.boxes import contains, evidence_cells, proposed_cells, random_cells, to_pixels

SIZE, GRID = (504, 504), (6, 6)


def propose(logits: torch.Tensor, tau: float):
    """Box of one question, by the rule that serving uses (Eq. 6-7)."""
    return bounding_box((smooth(torch.sigmoid(logits).view(GRID)) > tau).numpy())


def heat_of(cells, grid=GRID) -> torch.Tensor:
    """Logits of a map that is certain."""
    logits = torch.full(grid, -12.0)
    logits[cells[1] : cells[3], cells[0] : cells[2]] = 12.0
    return logits.flatten()


@pytest.mark.parametrize("seed", range(50))
def test_a_perfect_map_gives_a_box_that_holds_the_evidence(seed):
    """Labels, smoothing, threshold and crop fit together (tau_roi 0.3)."""
    rng = random.Random(seed)
    x, y = rng.randint(0, 440), rng.randint(0, 430)
    evidence = (x, y, x + rng.randint(30, 60), y + rng.randint(40, 70))
    cells = evidence_cells(evidence, SIZE, GRID)
    found = propose(heat_of(cells), 0.3)
    assert found is not None
    assert contains(to_pixels(found, SIZE, GRID), evidence)
    assert (found[2] - found[0]) * (found[3] - found[1]) <= 12


def test_labels_are_at_least_two_cells():
    """One lone cell would not survive the smoothing."""
    left, top, right, bottom = evidence_cells((20, 20, 60, 60), SIZE, GRID)
    assert (right - left) * (bottom - top) == 2
    assert propose(heat_of((2, 2, 3, 3)), 0.3) is None


def test_proposals_stay_on_the_grid():
    rng = random.Random(0)
    for _ in range(300):
        for box in (proposed_cells(rng, (4, 4, 6, 6), GRID), random_cells(rng, (3, 8))):
            rows, cols = GRID if box[2] <= 6 and box[3] > 3 else (6, 8)
            assert 0 <= box[0] < box[2] <= cols
            assert 0 <= box[1] < box[3] <= rows
