"""What came back? One view of an answer, whichever protocol brought it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from qzoom.client.failures import BrokenAnswer
from qzoom.client.pictures import PictureSource
from qzoom.contracts.stages import Box
from qzoom.pb import qzoom_pb2 as pb
from qzoom.telemetry.names import STAGES

if TYPE_CHECKING:
    from PIL import Image

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Region:
    """Where the model looked: `box_px` (x0, y0, x1, y1) of picture `image`, `score` in [0, 1]."""

    image: int
    box_px: Box
    score: float


@dataclass(frozen=True, slots=True)
class VisualTokens:
    """What the pictures cost, `coarse` and `roi`, and what full resolution would add: `spared`."""

    coarse: int
    roi: int
    spared: int


@dataclass(frozen=True, slots=True)
class Budgets:
    """Most visual tokens that were allowed: of each coarse picture, and of the crop."""

    max_visual_tokens: int
    max_roi_tokens: int


@dataclass(frozen=True, slots=True)
class Brownout:
    """What load changed: the steps taken, and the options that were `changed` for this answer."""

    level: int
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StageMs:
    """Milliseconds of a stage: waiting for its batch, and computing."""

    queue: float
    compute: float


@dataclass(frozen=True, slots=True)
class Started:
    """What is known when decoding begins; the fields are those of `Answer`."""

    route: Literal["direct", "zoom"]
    p_refine: float | None
    tau_gate: float | None
    boxes: tuple[Region, ...]
    visual_tokens: VisualTokens
    trace_id: str
    budgets: Budgets | None = None
    brownout: Brownout | None = None
    heatmap: NDArray[np.float32] | None = None

    @classmethod
    def from_json(cls, told: Json) -> Self:
        """Read the `qzoom` object of an answer or of a first chunk."""
        heatmap, budgets, shed = (told.get(name) for name in ("heatmap", "budgets", "brownout"))
        return cls(
            route=told["route"],
            p_refine=told["p_refine"],
            tau_gate=told["tau_gate"],
            boxes=tuple(
                Region(box["image"], _box(box["box"]), box["score"]) for box in told["boxes"]
            ),
            visual_tokens=VisualTokens(**told["visual_tokens"]),
            trace_id=told["trace_id"],
            budgets=Budgets(**budgets) if budgets else None,
            brownout=Brownout(shed["level"], tuple(shed["changed"])) if shed else None,
            heatmap=np.array(heatmap["values"], dtype=np.float32) if heatmap else None,
        )

    @classmethod
    def from_proto(cls, told: pb.Started) -> Self:
        """Read the message of the same name."""
        heatmap = None
        if told.HasField("heatmap"):
            grid = (told.heatmap.height, told.heatmap.width)
            heatmap = np.array(told.heatmap.values, dtype=np.float32).reshape(grid)
        tokens, budgets, shed = told.visual_tokens, told.budgets, told.brownout
        return cls(
            route="zoom" if told.route == pb.ROUTE_ZOOM else "direct",
            p_refine=told.p_refine if told.HasField("p_refine") else None,
            tau_gate=told.tau_gate if told.HasField("tau_gate") else None,
            boxes=tuple(
                Region(box.image, (box.x0, box.y0, box.x1, box.y1), box.score) for box in told.boxes
            ),
            visual_tokens=VisualTokens(tokens.coarse, tokens.roi, tokens.spared),
            trace_id=told.trace_id,
            budgets=Budgets(budgets.max_visual_tokens, budgets.max_roi_tokens)
            if told.HasField("budgets")
            else None,
            brownout=Brownout(shed.level, tuple(shed.changed))
            if told.HasField("brownout")
            else None,
            heatmap=heatmap,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer.

    Attributes:
        text: The answer.
        route: The way it took.
        p_refine: The gate's probability; None where the gate was not asked.
        tau_gate: The threshold that decided; None where the route was given.
        boxes: Where the model looked, empty on the direct route.
        visual_tokens: What the pictures cost.
        stage_ms: Time of each stage by its name, in the order of the calls.
        finish_reason: `stop`, or `length` where `max_tokens` were drawn.
        prompt_tokens: Length of the prompt, visual tokens included.
        completion_tokens: Tokens of the answer.
        budgets: Most visual tokens that were allowed.
        brownout: What load changed; None while there is no such load.
        degraded: Why this is the coarse answer although a zoom was meant; else None.
        heatmap: [H, W] in [0, 1], float32, with `explain` and where the RPN ran.
        request_id: Names the request.
        trace_id: Names its trace, for GET /v1/traces/{trace_id}.
        model: Name of the model that answered.
    """

    text: str
    route: Literal["direct", "zoom"]
    p_refine: float | None
    tau_gate: float | None
    boxes: tuple[Region, ...]
    visual_tokens: VisualTokens
    stage_ms: Mapping[str, StageMs]
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    request_id: str
    trace_id: str
    model: str
    budgets: Budgets | None = None
    brownout: Brownout | None = None
    degraded: str | None = None
    heatmap: NDArray[np.float32] | None = field(default=None, repr=False)

    def overlay(self, picture: PictureSource, question: str = "") -> "Image.Image":
        """Draw heat map and box over the picture that was asked about.

        Args:
            picture: The picture, as it was given to `ask`; remote URLs cannot be drawn over.
            question: Written below it.

        Raises:
            InvalidRequest: If the picture cannot be read.
        """
        from qzoom.client.overlays import overlay  # noqa: PLC0415 nothing else needs Pillow

        return overlay(self, picture, question)


def join_json(text: str, told: Json, last: Json, usage: Json, head: Json) -> Answer:
    """Put an answer together.

    Args:
        text: All of it.
        told: The whole `qzoom` object.
        last: The choice that has the `finish_reason`.
        usage: OpenAI's `usage`.
        head: Has `id` and `model`.

    Raises:
        BrokenAnswer: If a field is missing: this is another server, or another version.
    """
    try:
        started = Started.from_json(told)
        return Answer(
            text=text,
            **_known(started),
            stage_ms={stage: StageMs(**spent) for stage, spent in told["stage_ms"].items()},
            finish_reason=last["finish_reason"],
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
            degraded=told.get("degraded"),
            request_id=str(head["id"]).removeprefix("chatcmpl-"),
            model=head["model"],
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BrokenAnswer(f"the answer is not one of Q-Zoom Serve: {error!r}") from None


def join_proto(
    text: str, started: Started, last: pb.Finished, request_id: str, model: str
) -> Answer:
    """Put an answer together from messages."""
    spent = last.stage_ms
    return Answer(
        text=text,
        **_known(started),
        # A protobuf map has no order.
        stage_ms={
            stage.value: StageMs(spent[stage.value].queue, spent[stage.value].compute)
            for stage in STAGES
            if stage.value in spent
        },
        finish_reason="length" if last.finish_reason == pb.FINISH_REASON_LENGTH else "stop",
        prompt_tokens=last.prompt_tokens,
        completion_tokens=last.completion_tokens,
        degraded=last.degraded if last.HasField("degraded") else None,
        request_id=request_id,
        model=model,
    )


def _known(started: Started) -> dict[str, Any]:
    return {name: getattr(started, name) for name in Started.__slots__}


def _box(edges: list[int]) -> Box:
    x0, y0, x1, y1 = edges
    return (x0, y0, x1, y1)
