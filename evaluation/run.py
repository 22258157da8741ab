"""Ask a model questions whose answers are known, and record what happened to each."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.modes import Mode
from qzoom.contracts.conversation import single_question
from qzoom.contracts.sampling import Sampling
from qzoom.contracts.stages import Box
from qzoom.data.dataset import example
from qzoom.data.questions import Question
from qzoom.data.splits import Split
from qzoom.metrics.match import exact_match
from qzoom.model.pipeline import Answer, Pipeline
from qzoom.model.pipeline import Question as Request

MAX_ANSWER_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its picture.

    Attributes:
        picture: [H, W, 3] RGB, uint8.
        question: With answer, group and evidence box.
    """

    picture: NDArray[np.uint8]
    question: Question


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one question in one mode.

    Attributes:
        mode: Name of the mode.
        group: Group of the question.
        needs_detail: Whether the coarse picture cannot show the answer.
        question: Its text.
        truth: The right answer.
        answer: The given answer.
        is_right: 1.0 or 0.0, exact match after normalisation.
        route: The route that was taken.
        p_refine: The gate's score, where it was asked.
        box_px: The RoI in the source picture, on the zoom route.
        evidence_in_box: Whether the evidence's centre lies in the RoI; None without either.
        box_area: Share of the picture that the RoI covers; None without one.
        visual_tokens: Coarse and RoI tokens together.
        cpu_s: CPU seconds of the request's batch, shared evenly.
    """

    mode: str
    group: str
    needs_detail: bool
    question: str
    truth: str
    answer: str
    is_right: float
    route: str
    p_refine: float | None
    box_px: Box | None
    evidence_in_box: bool | None
    box_area: float | None
    visual_tokens: int
    cpu_s: float


def sample_items(split: Split, seed: int, count: int) -> Iterator[Item]:
    """Draw `count` questions over fresh synthetic pictures, the same for equal arguments."""
    drawn = index = 0
    while drawn < count:
        _, image, questions = example(split, seed, index)
        picture = np.asarray(image.convert("RGB"))
        for question in questions[: count - drawn]:
            yield Item(picture, question)
            drawn += 1
        index += 1


def evaluate(
    pipeline: Pipeline, items: Sequence[Item], mode: Mode, *, batch: int
) -> Iterator[Record]:
    """Answer all questions in one mode.

    Args:
        pipeline: The model.
        items: The questions.
        mode: How to ask.
        batch: Requests that run together.

    Yields:
        One record per question, in order.
    """
    sampling = Sampling(max_tokens=MAX_ANSWER_TOKENS)
    for start in range(0, len(items), batch):
        part = items[start : start + batch]
        requests = [
            Request(single_question(i.question.text), [i.picture], mode.options, sampling)
            for i in part
        ]
        began = time.process_time()
        answers = pipeline.answer_many(requests)
        cpu_s = (time.process_time() - began) / len(part)
        for item, answer in zip(part, answers, strict=True):
            yield _record(mode, item, answer, cpu_s)


def _record(mode: Mode, item: Item, answer: Answer, cpu_s: float) -> Record:
    question = item.question
    height, width = item.picture.shape[:2]
    box = answer.proposal.box_px if answer.proposal else None
    area = (box[2] - box[0]) * (box[3] - box[1]) / (width * height) if box else None
    return Record(
        mode=mode.name,
        group=question.group,
        needs_detail=question.needs_detail,
        question=question.text,
        truth=question.answer,
        answer=answer.text,
        is_right=exact_match(answer.text, [question.answer]),
        route=answer.route,
        p_refine=answer.p_refine,
        box_px=box,
        evidence_in_box=_centre_inside(question.evidence_px, box),
        box_area=area,
        visual_tokens=answer.num_coarse_tokens + answer.num_roi_tokens,
        cpu_s=cpu_s,
    )


def _centre_inside(
    evidence: tuple[float, float, float, float] | None, box: Box | None
) -> bool | None:
    if evidence is None or box is None:
        return None
    x, y = (evidence[0] + evidence[2]) / 2, (evidence[1] + evidence[3]) / 2
    return box[0] <= x < box[2] and box[1] <= y < box[3]
