"""What is asked, and what comes back, whoever answers."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from qzoom.contracts.conversation import Conversation
from qzoom.contracts.options import Options
from qzoom.contracts.stages import Box
from qzoom.data.record import PictureSource


@dataclass(frozen=True, slots=True)
class Asked:
    """One question on its way to a model.

    Attributes:
        picture: What it is about.
        conversation: All turns, with the prompt of the data set.
        options: Choices about the method.
        max_tokens: Most tokens of the answer.
    """

    picture: PictureSource
    conversation: Conversation
    options: Options
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it.

    Attributes:
        text: The answer; "" where there was none.
        route: As taken.
        p_refine: The gate's score; None where it was not asked.
        box_px: The RoI in the source picture, on the zoom route.
        coarse_tokens: Visual tokens of the coarse picture.
        roi_tokens: Visual tokens of the RoI.
        cpu_s: CPU seconds, preprocessing included; None where another process did the work.
        wall_s: Seconds until the answer was whole; None where it shared a batch.
        size_px: (width, height) of the source picture; (0, 0) where it was not decoded here.
        error: Why there is no answer; "" if there is one.
    """

    text: str
    route: str = "direct"
    p_refine: float | None = None
    box_px: Box | None = None
    coarse_tokens: int = 0
    roi_tokens: int = 0
    cpu_s: float | None = None
    wall_s: float | None = None
    size_px: tuple[int, int] = (0, 0)
    error: str = ""


class Answerer(Protocol):
    """Somebody who answers questions."""

    def answer_all(self, questions: Iterable[Asked]) -> Iterator[Outcome]:
        """Answer lazily, one outcome for each question, in order."""
        ...

    def about(self) -> dict[str, Any]:
        """Say who this is: model, revision, machine."""
        ...
