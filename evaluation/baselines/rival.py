"""What the rivals share: how they are asked and timed, and the second look at a given box."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from evaluation.answerers.base import Asked, Outcome
from evaluation.answerers.local import PictureCache, processor_name
from qzoom.contracts.conversation import Text
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.contracts.stages import Box, Proposal
from qzoom.data.record import Record
from qzoom.errors import QZoomError
from qzoom.model.images import Pixels
from qzoom.model.pipeline import Answer, Pipeline, Question
from qzoom.model.prefill import PrefillOutput
from qzoom.model.rpn import RpnOutput


class Rival(Protocol):
    """Another way to answer with the same base model."""

    @property
    def name(self) -> str:
        """In tables."""
        ...

    def answer(self, pixels: Pixels, asked: Asked) -> Answer:
        """Answer one question.

        Args:
            pixels: The decoded picture.
            asked: The question; of its options only the budget counts.
        """
        ...


class RivalAnswerer:
    """Asks a rival one question at a time (see `Answerer`).

    Args:
        rival: Who answers.
        about: What is said about the base model.
    """

    def __init__(self, rival: Rival, about: dict[str, Any]) -> None:
        self._rival, self._about = rival, about
        self._pictures = PictureCache()

    def answer_all(self, questions: Iterable[Asked]) -> Iterator[Outcome]:
        """Answer lazily, in order."""
        for asked in questions:
            try:
                yield self._answer(asked)
            except QZoomError as error:
                yield Outcome("", error=error.message)

    def about(self) -> dict[str, Any]:
        """The base model and the rival."""
        return {**self._about, "rival": self._rival.name, "processor": processor_name()}

    def _answer(self, asked: Asked) -> Outcome:
        pixels = self._pictures.load(asked.picture)
        began, began_cpu = time.perf_counter(), time.process_time()
        answer = self._rival.answer(pixels, asked)
        return Outcome(
            text=answer.text,
            route=answer.route,
            box_px=answer.proposal.box_px if answer.proposal else None,
            coarse_tokens=answer.num_coarse_tokens,
            roi_tokens=answer.num_roi_tokens,
            cpu_s=time.process_time() - began_cpu,
            wall_s=time.perf_counter() - began,
            size_px=(pixels.shape[1], pixels.shape[0]),
        )


class SecondLook(Pipeline):
    """The pipeline with a region from elsewhere in the place of the RPN's."""

    @classmethod
    def over(cls, pipeline: Pipeline) -> "SecondLook":
        """Share another pipeline's stages."""
        found = cls(pipeline.checkpoint, pipeline.encoder, pipeline.gate, None, pipeline.decoder)
        found.box_px = None
        return found

    box_px: Box | None
    """Where to look in the next question; None answers directly."""

    def look(self, pixels: Pixels, asked: Asked, box_px: Box | None) -> Answer:
        """Answer with a crop of the box beside the coarse picture, without one if it is None."""
        self.box_px = box_px
        # `direct` keeps gate and RPN out; the region comes from `_propose`.
        options = Options(
            route="direct",
            max_visual_tokens=asked.options.max_visual_tokens,
            max_roi_tokens=asked.options.max_visual_tokens,
        )
        question = Question(asked.conversation, [pixels], options, Sampling(asked.max_tokens))
        return self.answer_many([question])[0]

    def _propose(
        self, questions: Sequence[Question], prefills: Sequence[PrefillOutput]
    ) -> list[RpnOutput | None]:
        del questions
        if self.box_px is None:
            return [None] * len(prefills)
        span = prefills[0].state.prompt.spans[0]
        cells = cells_of(self.box_px, span.size_px, span.grid)
        proposal = Proposal(0, cells, self.box_px, 1.0)
        return [RpnOutput(proposal, 0.5, None, 0, ())]


def cells_of(box_px: Box, size_px: tuple[int, int], grid: tuple[int, int]) -> Box:
    """Smallest box of coarse cells around a box of pixels, at least one cell.

    Pixels of a cell's edge were rounded down, so that an edge within a pixel is that cell's.
    """
    (width, height), (rows, columns) = size_px, grid
    x0 = min(columns - 1, int((box_px[0] + 1) * columns / width))
    y0 = min(rows - 1, int((box_px[1] + 1) * rows / height))
    x1 = max(x0 + 1, min(columns, int(np.ceil(box_px[2] * columns / width))))
    y1 = max(y0 + 1, min(rows, int(np.ceil(box_px[3] * rows / height))))
    return x0, y0, x1, y1


def grown(box: Sequence[float], size_px: tuple[int, int], min_side_px: int) -> Box:
    """Whole pixels, inside the picture, with sides of at least `min_side_px` where it has them."""
    sides = []
    for low, high, length in zip(box[:2], box[2:], size_px, strict=True):
        side = min(float(length), max(high - low, float(min_side_px)))
        start = min(max(0.0, (low + high) / 2 - side / 2), length - side)
        sides.append((int(start), int(np.ceil(start + side))))
    (x0, x1), (y0, y1) = sides
    return x0, y0, min(x1, size_px[0]), min(y1, size_px[1])


def record_of(asked: Asked, question: str | None = None) -> Record:
    """The question as a record, for `training.reading`; another text may take its place."""
    texts = [
        "".join(part.text for part in turn.parts if isinstance(part, Text))
        for turn in asked.conversation
    ]
    history = tuple(zip(texts[:-1:2], texts[1::2], strict=True))
    return Record("", asked.picture, texts[-1] if question is None else question, history=history)


def device_of(pipeline: Pipeline) -> torch.device:
    """Where the pipeline's stages run."""
    return pipeline.decoder.head.weight.device
