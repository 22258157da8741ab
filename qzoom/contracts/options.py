"""What may a client choose about the method? The `qzoom` object of a request."""

from dataclasses import dataclass
from typing import Literal

Route = Literal["auto", "direct", "zoom"]


@dataclass(frozen=True, slots=True)
class Options:
    """Per-request choices; None means the model's or the operator's default.

    Attributes:
        route: `auto` lets the gate decide, `direct` never zooms, `zoom` always proposes an RoI.
        tau_gate: Zoom when p(refine) is at least this, in [0, 1].
        tau_roi: Cells whose smoothed score is above this (a part of the largest one for models
            that say so) belong to the RoI, in (0, 1).
        max_visual_tokens: Budget of the coarse picture, in visual tokens.
        max_roi_tokens: Budget of the RoI crop, in visual tokens.
        deadline_ms: Longest time from the first byte to the last token, in milliseconds.
        explain: Whether the answer carries the heat map.
    """

    route: Route = "auto"
    tau_gate: float | None = None
    tau_roi: float | None = None
    max_visual_tokens: int | None = None
    max_roi_tokens: int | None = None
    deadline_ms: int | None = None
    explain: bool = False
