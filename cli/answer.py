"""What came back for a question? One view of an answer, from a server or from this process."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qzoom.contracts.stages import Box
from qzoom.overlay import Look
from qzoom.telemetry.names import Span

if TYPE_CHECKING:
    from qzoom.client import Answer

_TOKEN_KINDS = {"coarse": "coarse", "roi": "RoI", "spared": "spared"}


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer with what is known about its way.

    Attributes:
        text: The answer.
        route: `direct` or `zoom`.
        p_refine: The gate's probability; None where the gate was not asked.
        tau_gate: The threshold that decided; None where the route was given.
        box_px: The RoI in pixels of the source; None on the direct route.
        box_score: Highest value of the heat map inside the box.
        tokens: Visual tokens: `coarse`, `roi`, and from a server `spared`.
        stage_ms: (queue, compute) milliseconds by stage, in the order of the calls.
        heatmap: [H, W] in [0, 1], float32, where it was asked for and the RPN ran.
        trace_id: Names the trace; empty in process.
        degraded: Why this is the coarse answer although a zoom was meant; else empty.
    """

    text: str
    route: str
    p_refine: float | None
    tau_gate: float | None
    box_px: Box | None
    box_score: float | None
    tokens: Mapping[str, int]
    stage_ms: Mapping[str, tuple[float, float]]
    heatmap: NDArray[np.float32] | None = None
    trace_id: str = ""
    degraded: str = ""

    def look(self, question: str) -> Look:
        """Say what `qzoom.overlay` shall draw."""
        return Look(question, self.text, self.route, self.p_refine, self.heatmap, self.box_px)


def from_answer(answer: "Answer") -> Answered:
    """Take what a server answered."""
    box = answer.boxes[0] if answer.boxes else None
    tokens = answer.visual_tokens
    return Answered(
        text=answer.text,
        route=answer.route,
        p_refine=answer.p_refine,
        tau_gate=answer.tau_gate,
        box_px=box.box_px if box else None,
        box_score=box.score if box else None,
        tokens={"coarse": tokens.coarse, "roi": tokens.roi, "spared": tokens.spared},
        stage_ms={stage: (ms.queue, ms.compute) for stage, ms in answer.stage_ms.items()},
        heatmap=answer.heatmap,
        trace_id=answer.trace_id,
        degraded=answer.degraded or "",
    )


def describe(answered: Answered) -> RenderableType:
    """Build what a terminal shows below the answer: the way it took, and the time of each stage."""
    lines = [f"route      {answered.route}"]
    if answered.p_refine is not None:
        tau = "" if answered.tau_gate is None else f", zooms from {answered.tau_gate:.3g} on"
        lines.append(f"p(refine)  {answered.p_refine:.3f}{tau}")
    if answered.box_px is not None:
        score = "" if answered.box_score is None else f", score {answered.box_score:.2f}"
        lines.append(f"box        {answered.box_px} px{score}")
    elif Span.RPN_PROPOSE.value in answered.stage_ms and not answered.degraded:
        lines.append("box        none: no part of the picture scored above tau_roi")
    counts = (f"{count} {_TOKEN_KINDS[kind]}" for kind, count in answered.tokens.items())
    lines.append(f"tokens     {', '.join(counts)}")
    if answered.degraded:
        lines.append(f"degraded   {answered.degraded}")
    if answered.trace_id:
        lines.append(f"trace      {answered.trace_id}")
    return Group(Text("\n".join(lines)), stage_table(answered.stage_ms))


def stage_table(stage_ms: Mapping[str, tuple[float, float]]) -> Table:
    """Show where the time went, one row for each stage."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    for heading in ("queue ms", "compute ms"):
        table.add_column(heading, justify="right")
    for stage, (queue, compute) in stage_ms.items():
        table.add_row(stage, f"{queue:.1f}", f"{compute:.1f}")
    queued, computed = (sum(spent[part] for spent in stage_ms.values()) for part in (0, 1))
    table.add_row("sum", f"{queued:.1f}", f"{computed:.1f}", style="bold")
    return table
