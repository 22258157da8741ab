"""The method stage by stage, so that each can be timed, counted or repeated on its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

from qzoom.contracts.conversation import Conversation
from qzoom.contracts.options import Options
from qzoom.contracts.routing import wants_zoom
from qzoom.contracts.stages import Proposal
from qzoom.errors import QZoomError
from qzoom.model.cache import SlotCache
from qzoom.model.decoder import ResumeInput, Roi
from qzoom.model.images import Pixels
from qzoom.model.pipeline import Pipeline
from qzoom.model.prefill import PrefillInput, PrefillOutput
from qzoom.model.rpn import RpnInput
from qzoom.model.state import VisualTokens

Result = TypeVar("Result")

STAGES = (
    "encoder.coarse",
    "gate.prefill",
    "rpn.propose",
    "encoder.roi",
    "llm.resume",
    "llm.decode",
)


class Observer(Protocol):
    """Runs the work of one stage and takes note of what it cost."""

    def __call__(self, stage: str, work: Callable[[], Result], /) -> Result:
        """Return what the work returns."""
        ...


@dataclass(frozen=True, slots=True)
class Walked:
    """What came out.

    Attributes:
        ids: Tokens of the first request's answer.
        route: `direct` or `zoom`.
        coarse_grid: (H, W) of the coarse picture in cells.
        roi_grid: Of the crop; None on the direct route.
        prompt_tokens: Of the coarse prompt.
        prefix_tokens: Of it, up to the end of the picture.
        sequence_tokens: Before the answer, RoI included.
    """

    ids: tuple[int, ...]
    route: str
    coarse_grid: tuple[int, int]
    roi_grid: tuple[int, int] | None
    prompt_tokens: int
    prefix_tokens: int
    sequence_tokens: int


def walk(
    pipeline: Pipeline,
    picture: Pixels,
    conversation: Conversation,
    options: Options,
    *,
    batch: int,
    max_tokens: int,
    observe: Observer,
) -> Walked:
    """Answer `batch` equal questions greedily, never ending before `max_tokens`.

    Args:
        pipeline: The model.
        picture: [H, W, 3] RGB, uint8.
        conversation: About the picture.
        options: As a client chooses them.
        batch: Requests that run together.
        max_tokens: Tokens of each answer.
        observe: Wraps each stage.

    Raises:
        QZoomError: If a zoom is asked for and the RPN finds nothing.
    """
    size_px = (picture.shape[1], picture.shape[0])

    def encode() -> list[VisualTokens]:
        prepare = pipeline.encoder.prepare_coarse
        return pipeline.encoder.encode(
            [prepare(picture, options.max_visual_tokens) for _ in range(batch)]
        )

    visuals = observe("encoder.coarse", encode)
    grid = visuals[0].grid

    def prefill() -> list[PrefillOutput]:
        prompts = [pipeline.gate.tokenize(conversation, [grid], [size_px]) for _ in visuals]
        inputs = [PrefillInput(p, [v]) for p, v in zip(prompts, visuals, strict=True)]
        return pipeline.gate.run(inputs)

    outputs = observe("gate.prefill", prefill)
    proposal = _propose(pipeline, outputs, options, observe)
    rois: list[Roi | None] = [None] * batch
    if proposal is not None:

        def crop() -> list[VisualTokens]:
            prepare = pipeline.encoder.prepare_roi
            return pipeline.encoder.encode(
                [prepare(picture, proposal, options.max_roi_tokens) for _ in range(batch)]
            )

        rois = [Roi(proposal, visual.grid, visual) for visual in observe("encoder.roi", crop)]
    roi_grid = rois[0].grid if rois[0] else None
    prompt = outputs[0].state.prompt
    length = pipeline.decoder.num_tokens(prompt, proposal, roi_grid)
    cache = pipeline.decoder.new_cache(batch, length + max_tokens)
    inputs = [
        ResumeInput(cache.alloc(), output.state, roi)
        for output, roi in zip(outputs, rois, strict=True)
    ]
    logits = observe("llm.resume", lambda: pipeline.decoder.resume(cache, inputs))
    slots = [item.slot for item in inputs]
    ids = observe("llm.decode", lambda: _decode(pipeline, cache, slots, logits, max_tokens))
    return Walked(
        ids=ids,
        route="zoom" if proposal else "direct",
        coarse_grid=grid,
        roi_grid=roi_grid,
        prompt_tokens=len(prompt.ids),
        prefix_tokens=prompt.prefix_len,
        sequence_tokens=length,
    )


def _propose(
    pipeline: Pipeline, outputs: list[PrefillOutput], options: Options, observe: Observer
) -> Proposal | None:
    rpn, tau = pipeline.rpn, options.tau_gate
    threshold = pipeline.checkpoint.qzoom.tau_gate if tau is None else tau
    if rpn is None or not wants_zoom(options.route, outputs[0].p_refine, threshold):
        return None
    inputs = [RpnInput(output.state, options.tau_roi) for output in outputs]
    proposal = observe("rpn.propose", lambda: rpn.run(inputs))[0].proposal
    if proposal is None:
        raise QZoomError("the RPN finds nothing in the picture; a lower tau_roi does")
    return proposal


def _decode(
    pipeline: Pipeline, cache: SlotCache, slots: list[int], logits: Tensor, max_tokens: int
) -> tuple[int, ...]:
    last = logits.argmax(dim=-1).tolist()
    first = [last[0]]
    for _ in range(max_tokens - 1):
        last = pipeline.decoder.step(cache, slots, last).argmax(dim=-1).tolist()
        first.append(last[0])
    return tuple(first)
