"""What does the request flow tell the edge? One start, pieces of text, one end.

The flow (`gateway.flow`) yields these events in this order; REST and gRPC turn them into their
own messages. What goes wrong is raised as a `QZoomError` out of the generator instead; closing
the generator cancels the request.
"""

import base64
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator

from qzoom.contracts.request import AnswerRequest
from qzoom.contracts.stages import Box, FinishReason


@dataclass(frozen=True, slots=True)
class Region:
    """A region of interest that was looked at.

    Attributes:
        image: Index of the picture in the request.
        box_px: (x0, y0, x1, y1) in pixels of the source picture.
        score: Highest value of the smoothed RPN map inside the box, in [0, 1].
    """

    image: int
    box_px: Box
    score: float


def _write_map(values: NDArray[np.float32]) -> dict[str, Any]:
    return {"shape": values.shape, "float32": base64.b64encode(values.tobytes()).decode()}


def _read_map(kept: dict[str, Any]) -> NDArray[np.float32]:
    data = base64.b64decode(kept["float32"], validate=True)
    return np.frombuffer(data, np.float32).reshape(kept["shape"])


StoredMap = Annotated[NDArray[np.float32], PlainValidator(_read_map), PlainSerializer(_write_map)]
"""A map that pydantic can write and read where an answer is kept."""


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The smoothed RPN map of one picture, sent with `explain`.

    Attributes:
        image: Index of the picture in the request.
        values: [H, W] in [0, 1], float32, one value for each cell of the coarse grid.
    """

    image: int
    values: StoredMap


@dataclass(frozen=True, slots=True)
class VisualTokens:
    """What the pictures cost.

    Attributes:
        coarse: Visual tokens of all coarse pictures.
        roi: Visual tokens of the RoI crop, 0 on the direct route.
        spared: What the pictures would have cost at their own resolution, less the two above.
    """

    coarse: int
    roi: int
    spared: int


@dataclass(frozen=True, slots=True)
class Budgets:
    """Most visual tokens that were allowed.

    Attributes:
        coarse: Of each coarse picture.
        roi: Of the RoI crop, if one was looked at.
    """

    coarse: int
    roi: int


@dataclass(frozen=True, slots=True)
class Brownout:
    """What load changed about a request that did not choose it itself.

    Attributes:
        level: Steps that were taken; above 0.
        changed: `tau_gate`, `max_roi_tokens`, or both; empty where the request chose both itself.
    """

    level: int
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StageMs:
    """Time of one stage in milliseconds, summed over its calls in this request."""

    queue: float
    compute: float


@dataclass(frozen=True, slots=True)
class Started:
    """The route is decided and decoding begins; the first event.

    Attributes:
        route: The way that was taken.
        p_refine: The gate's probability in [0, 1]; None where no gate was asked.
        tau_gate: Threshold that decided; None where the route was given.
        regions: Where the model looked, empty on the direct route.
        visual_tokens: What the pictures cost.
        trace_id: Names the request's trace, 32 hexadecimal digits.
        budgets: Most visual tokens that were allowed.
        brownout: What load changed; None while there is no such load.
        heatmap: Only with `explain`, and only where the RPN ran.
    """

    route: Literal["direct", "zoom"]
    p_refine: float | None
    tau_gate: float | None
    regions: tuple[Region, ...]
    visual_tokens: VisualTokens
    trace_id: str
    budgets: Budgets
    brownout: Brownout | None = None
    heatmap: HeatMap | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the answer.

    Attributes:
        text: Its text; may be empty.
        num_tokens: Tokens drawn for it.
        ids: These tokens, to compare answers exactly; clients are not told.
    """

    text: str
    num_tokens: int
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete; the last event.

    Attributes:
        finish_reason: Why decoding ended.
        prompt_tokens: Length of the sequence before the answer, visual tokens included.
        completion_tokens: Tokens drawn.
        stage_ms: Time of each stage by its name.
        degraded: Why this is the coarse answer although the gate wanted to zoom; None otherwise.
    """

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    stage_ms: Mapping[str, StageMs]
    degraded: str | None = None


Event = Started | Delta | Finished


class AnswerFlow(Protocol):
    """What the edge needs of the request flow; `gateway.flow.Flow` is the real one."""

    def run(self, request: AnswerRequest) -> AsyncGenerator[Event, None]:
        """Answer one request: `Started`, then `Delta` as often as needed, then `Finished`.

        Raises:
            QZoomError: Whatever goes wrong, ready to be shown to the caller.
        """
        ...
