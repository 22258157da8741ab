"""Which way does a request take, and what follows from it? Pure functions of the request flow."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.events import Brownout, Budgets, HeatMap, Region, Started, VisualTokens
from gateway.remote import Reference
from gateway.reply import Reply
from qzoom.contracts.budget import native_tokens
from qzoom.contracts.options import Options
from qzoom.contracts.request import AnswerRequest
from qzoom.contracts.routing import wants_zoom
from qzoom.contracts.stages import Context, Encoded, Prefilled, Proposed, Resume
from qzoom.contracts.status import ModelFacts
from qzoom.errors import InvalidRequest

ROI_DELIMITERS = 2
"""Tokens around the RoI, where the family has them (Eq. 15)."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate's score means for one request.

    Attributes:
        p_refine: The gate's score in [0, 1]; None where the gate was not asked.
        tau_gate: Threshold that it was compared with; None without a score.
        is_open: Whether the RPN is asked for a region.
    """

    p_refine: float | None
    tau_gate: float | None
    is_open: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What came of looking closer.

    Attributes:
        proposed: The RPN's reply; None where it was not asked or failed.
        roi: The encoded crop; None on the direct route.
        degraded: Why there is no RoI although one was wanted; None where nothing failed.
    """

    proposed: Proposed | None = None
    roi: Reply[Encoded] | None = None
    degraded: str | None = None


def asks_gate(options: Options, facts: ModelFacts, num_images: int) -> bool:
    """Whether p(refine) is needed: only `auto` leaves the choice to the gate."""
    return options.route == "auto" and facts.has_gate and facts.has_rpn and num_images > 0


def check(options: Options, facts: ModelFacts, num_images: int) -> None:
    """Refuse a route that cannot be taken, before anything is computed for it.

    Raises:
        InvalidRequest: If the route is `zoom` and there is nothing to zoom with or into.
    """
    if options.route == "zoom" and num_images == 0:
        raise InvalidRequest("route is zoom, but there is no picture", param="qzoom.route")
    if options.route == "zoom" and not facts.has_rpn:
        raise InvalidRequest("route is zoom, but the model has no RPN", param="qzoom.route")


def decide(
    options: Options, facts: ModelFacts, num_images: int, p_refine: float | None
) -> Decision:
    """Decide whether to look closer (Q-Zoom, Sec. III-B).

    `auto` without a score, which means a checkpoint without a gate, always asks the RPN; so does
    `zoom`. Where there is no picture, or nothing that could propose a region, `auto` is direct.
    """
    tau_gate = facts.tau_gate if options.tau_gate is None else options.tau_gate
    is_open = wants_zoom(options.route, p_refine, tau_gate)
    return Decision(
        p_refine,
        tau_gate=None if p_refine is None else tau_gate,
        is_open=is_open and facts.has_rpn and num_images > 0,
    )


def fits(look: Look, prompt_tokens: int, facts: ModelFacts) -> bool:
    """Whether the prompt with its RoI leaves room for an answer; without an RoI it does."""
    if look.roi is None or facts.max_prompt_tokens is None:
        return True
    zoomed = prompt_tokens + look.roi.message.num_tokens + ROI_DELIMITERS
    return zoomed <= facts.max_prompt_tokens


def resume(
    request: AnswerRequest,
    context: Context,
    prefilled: Reply[Prefilled],
    coarse: Sequence[Reply[Encoded]],
    look: Look,
) -> tuple[Resume, list[Reference]]:
    """Build the call of the llm service and the list of state that it reads.

    On the zoom route the pictures after the chosen one, in the order of the prompt, are part of the
    tail that runs again, so that their visual tokens are needed once more.
    """
    if look.roi is None or look.proposed is None or look.proposed.proposal is None:
        return Resume(context, prefilled.message, request.sampling), list(prefilled.buffers)
    order = [span.image for span in prefilled.message.prompt.spans]
    proposal = look.proposed.proposal
    later = [coarse[image] for image in order[order.index(proposal.image) + 1 :]]
    message = Resume(
        context,
        prefilled.message,
        request.sampling,
        proposal,
        look.roi.message,
        tuple(reply.message for reply in later),
    )
    buffers = [*prefilled.buffers, *look.roi.buffers]
    return message, buffers + [buffer for reply in later for buffer in reply.buffers]


def visual_tokens(
    facts: ModelFacts,
    sizes_px: Sequence[tuple[int, int]],
    coarse: Sequence[Reply[Encoded]],
    look: Look,
) -> VisualTokens:
    """Count what the pictures cost, and what was spared against their own resolution."""
    spent = sum(reply.message.num_tokens for reply in coarse)
    roi = look.roi.message.num_tokens if look.roi else 0
    native = sum(native_tokens(size_px, facts.cell_px) for size_px in sizes_px)
    return VisualTokens(coarse=spent, roi=roi, spared=max(0, native - spent - roi))


def budgets(options: Options, facts: ModelFacts) -> Budgets:
    """Tell which budgets a request has, its own or the model's."""
    own, roi = options.max_visual_tokens, options.max_roi_tokens
    return Budgets(
        coarse=facts.rules.max_tokens if own is None else own,
        roi=facts.max_roi_tokens if roi is None else roi,
    )


def brownout(level: int, asked: Options, used: Options) -> Brownout | None:
    """Tell what a level of brown-out changed; None at level 0."""
    if level == 0:
        return None
    names = ("tau_gate", "max_roi_tokens")
    return Brownout(level, tuple(n for n in names if getattr(asked, n) != getattr(used, n)))


def started(
    decision: Decision,
    look: Look,
    tokens: VisualTokens,
    trace_id: str,
    allowed: Budgets,
    shed: Brownout | None,
) -> Started:
    """Build the first event of an answer."""
    proposed = look.proposed
    proposal = proposed.proposal if proposed and look.roi else None
    heatmap = None
    if proposed is not None and proposed.heatmap is not None:
        heatmap = HeatMap(proposed.heatmap_image, proposed.heatmap)
    return Started(
        route="direct" if proposal is None else "zoom",
        p_refine=decision.p_refine,
        tau_gate=decision.tau_gate,
        regions=(Region(proposal.image, proposal.box_px, proposal.score),) if proposal else (),
        visual_tokens=tokens,
        trace_id=trace_id,
        budgets=allowed,
        brownout=shed,
        heatmap=heatmap,
    )
