"""From attention to labels for the RPN (III-C-2): sinks out, coarse cells, three states.

Everything here is about one question and one picture: maps [H, W] of attention mass, softmax
weights averaged over the answer's tokens and the chosen heads (Eq. 10). The published code differs
from the paper in several places; each is a field of `RegionRules`.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qzoom.contracts.stages import Box
from qzoom.model.geometry import bounding_box

FOREGROUND, BACKGROUND, IGNORE = 1, 0, -1

Map = NDArray[np.float32]
Labels = NDArray[np.int8]
SinkRule = Literal["none", "norm", "mass"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionRules:
    """How attention becomes labels.

    Attributes:
        tau_fg: Foreground is what exceeds this part of the maximum (Eq. 12), in (0, 1).
        tau_bg: Background lies outside the foreground's box and below this part, in (0, tau_fg].
        sinks: Which cells are sinks: none; `norm`, Eq. 11; `mass`, the published rule.
        tau_norm: Sinks have states after layer B whose norm exceeds this many times the median of
            the picture's (Eq. 11 leaves the value open).
        tau_mass: Sinks get at least this attention from the sink heads.
        sinks_are_background: Whether sinks outside the box become background, as published, or
            are ignored.
        dilate: Cells by which the foreground's box grows before background is told from it;
            the published code for Qwen has 1.
        max_area: Questions whose box covers at least this part of the picture are skipped;
            published .5. 1 keeps all.
        min_mass: Questions whose map stays below this are skipped; published 5e-3.
        padding_is_background: Whether cells of a square's padding are background everywhere, as
            published, or are treated like others.
    """

    tau_fg: float = 0.2
    tau_bg: float = 0.05
    sinks: SinkRule = "norm"
    tau_norm: float = 3.0
    tau_mass: float = 1e-2
    sinks_are_background: bool = True
    dilate: int = 0
    max_area: float = 1.0
    min_mass: float = 0.0
    padding_is_background: bool = True

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: Naming the field, its value and what it may be.
        """
        for name, good, allowed in (
            ("tau_fg", 0 < self.tau_fg < 1, "in (0, 1)"),
            ("tau_bg", 0 < self.tau_bg <= self.tau_fg, f"in (0, tau_fg = {self.tau_fg}]"),
            ("tau_norm", self.tau_norm > 1, "above 1"),
            ("tau_mass", self.tau_mass > 0, "above 0"),
            ("dilate", 0 <= self.dilate <= 8, "in [0, 8]"),
            ("max_area", 0 < self.max_area <= 1, "in (0, 1]"),
            ("min_mass", 0 <= self.min_mass < 1, "in [0, 1)"),
        ):
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)}, must be {allowed}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a model looked at while it answered.

    Attributes:
        attention: Mass per cell of the pass that it was taken from [H, W].
        sink_mass: Mass from the sink heads [H, W]; zeros where none were chosen.
        norms: Norm of each cell's state, in medians of the picture [H, W].
        padding: True for cells that lie in a square's padding [H, W].
    """

    attention: Map
    sink_mass: Map
    norms: Map
    padding: NDArray[np.bool_]


def find_sinks(evidence: Evidence, rules: RegionRules) -> NDArray[np.bool_]:
    """Cells whose attention means nothing (Eq. 11)."""
    if rules.sinks == "norm":
        found = evidence.norms > rules.tau_norm
    elif rules.sinks == "mass":
        found = evidence.sink_mass >= rules.tau_mass
    else:
        found = np.zeros(evidence.attention.shape, np.bool_)
    return found | evidence.padding if rules.padding_is_background else found


def resample(values: Map, grid: tuple[int, int]) -> Map:
    """Share mass out over another grid of the same picture, by area; the sum stays.

    Args:
        values: [H, W].
        grid: (H', W').
    """
    rows, columns = (_overlap(a, b) for a, b in zip(values.shape, grid, strict=True))
    shared: Map = (rows @ values @ columns.T).astype(np.float32)
    return shared


def _overlap(old: int, new: int) -> Map:
    """[new, old]: which part of each old cell lies in each new one."""
    old_edges = np.linspace(0, 1, old + 1)
    new_edges = np.linspace(0, 1, new + 1)
    low = np.maximum(old_edges[None, :-1], new_edges[:-1, None])
    high = np.minimum(old_edges[None, 1:], new_edges[1:, None])
    shares: Map = (np.maximum(high - low, 0) * old).astype(np.float32)
    return shares


def label_cells(
    evidence: Evidence, grid: tuple[int, int], rules: RegionRules
) -> tuple[Labels, Box | None]:
    """Label the cells that the RPN predicts on (Eq. 12).

    Args:
        evidence: Of a pass at any resolution.
        grid: (H, W) of the coarse picture.
        rules: What counts as what.

    Returns:
        labels: [H, W] of FOREGROUND, BACKGROUND and IGNORE; IGNORE alone where the question is
            skipped.
        box: Around the foreground, None where the question is skipped.
    """
    skipped = np.full(grid, IGNORE, np.int8), None
    sinks = find_sinks(evidence, rules)
    kept = np.where(sinks, np.float32(0), evidence.attention)
    if not kept.max(initial=0) > max(rules.min_mass, 0):
        return skipped
    coarse = resample(kept, grid)
    peak = float(coarse.max())
    foreground = coarse > rules.tau_fg * peak
    box = bounding_box(foreground)
    assert box is not None, "the maximum exceeds any part of itself"
    area = (box[2] - box[0]) * (box[3] - box[1])
    if rules.max_area < 1 and area >= rules.max_area * coarse.size:
        return skipped
    x0, y0, x1, y1 = (*(max(0, v - rules.dilate) for v in box[:2]), *(box[2:]))
    x1, y1 = min(grid[1], x1 + rules.dilate), min(grid[0], y1 + rules.dilate)
    outside = np.ones(grid, np.bool_)
    outside[y0:y1, x0:x1] = False
    labels = np.full(grid, IGNORE, np.int8)
    labels[outside & (coarse < rules.tau_bg * peak)] = BACKGROUND
    if not rules.sinks_are_background:
        mostly = resample(sinks.astype(np.float32), grid) > 0.5 * sinks.size / coarse.size
        labels[mostly] = IGNORE
    labels[foreground] = FOREGROUND
    if rules.padding_is_background:
        padding = resample(evidence.padding.astype(np.float32), grid)
        labels[padding > 0.99 * evidence.padding.size / coarse.size] = BACKGROUND
    return labels, box
