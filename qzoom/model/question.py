"""What goes into the in-process pipeline, and what comes out?"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qzoom.contracts.conversation import Conversation
from qzoom.contracts.options import Options, Route
from qzoom.contracts.sampling import Sampling
from qzoom.contracts.stages import FinishReason, Proposal
from qzoom.model.images import Pixels


@dataclass(frozen=True, slots=True)
class Question:
    """One request.

    Attributes:
        conversation: All turns; pictures refer to `images`.
        images: Decoded pictures [height, width, 3], uint8, RGB.
        options: Choices about the method.
        sampling: How to draw tokens.
    """

    conversation: Conversation
    images: Sequence[Pixels]
    options: Options = field(default_factory=Options)
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer and how it came about.

    Attributes:
        text: The answer.
        ids: Its tokens, with the one that ended it.
        finish: Why it ended.
        route: `direct` or `zoom`, as taken.
        p_refine: The gate's score; None without a gate or where it was not asked.
        tau_gate: Threshold of the gate.
        proposal: Where was looked; None on the direct route.
        heatmap: Smoothed map of the RPN [H, W], where it was asked.
        num_prompt_tokens: Length of the sequence before the answer, visual tokens included.
        num_coarse_tokens: Visual tokens of the coarse pictures.
        num_roi_tokens: Visual tokens of the RoI.
        stage_s: Seconds per stage of the batch that the request was part of; stages that it had no
            need of are absent.
    """

    text: str
    ids: tuple[int, ...]
    finish: FinishReason
    route: Route
    p_refine: float | None
    tau_gate: float
    proposal: Proposal | None
    heatmap: NDArray[np.float32] | None
    num_prompt_tokens: int
    num_coarse_tokens: int
    num_roi_tokens: int
    stage_s: dict[str, float]
