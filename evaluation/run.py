"""Ask a model questions whose answers are known, and record what happened to each."""

import dataclasses
from collections.abc import Iterator, Sequence

from evaluation.answerers import Answerer, Asked, Outcome
from evaluation.dataset import DataSet, size_domain
from evaluation.modes import Mode
from evaluation.oracle import oracle_results
from evaluation.results import Result
from qzoom.data.record import Record


def evaluate(answerer: Answerer, data: DataSet, mode: Mode) -> Iterator[Result]:
    """Answer all questions in one mode.

    Args:
        answerer: Who answers.
        data: The questions.
        mode: How to ask; not the oracle.

    Yields:
        One result per question, in order.
    """
    options = mode.options
    asked = (
        Asked(record.picture, data.conversation(record), options, data.max_tokens)
        for record in data.records
    )
    for record, outcome in zip(data.records, answerer.answer_all(asked), strict=True):
        yield judge(data, mode, record, outcome)


def evaluate_all(
    answerer: Answerer, data: DataSet, modes: Sequence[Mode]
) -> Iterator[tuple[Mode, Result]]:
    """Answer all questions in every mode; the oracle is made of what base and zoom answered."""
    answered: dict[tuple[str, int | None], list[Result]] = {}
    for mode in modes:
        if mode.kind == "oracle":
            base, zoom = answered["base", mode.budget], answered["zoom", mode.budget]
            found: Iterator[Result] = iter(oracle_results(base, zoom, mode))
        else:
            found = evaluate(answerer, data, mode)
        kept = answered.setdefault((mode.kind, mode.budget), [])
        for result in found:
            kept.append(result)
            yield mode, result


def evaluate_rival(
    answerer: Answerer, data: DataSet, name: str, budget: int | None
) -> Iterator[Result]:
    """Answer all questions by a rival, whose name is the kind of its results.

    Args:
        answerer: The rival's.
        data: The questions.
        name: Short name of the rival.
        budget: Most visual tokens; None for the model's own.
    """
    at = "" if budget is None else f"@{budget}"
    for result in evaluate(answerer, data, Mode("base", budget, label=f"{name}{at}")):
        yield dataclasses.replace(result, kind=name)


def judge(data: DataSet, mode: Mode, record: Record, outcome: Outcome) -> Result:
    """Score one outcome."""
    answer = data.post(outcome.text)
    has_answer = bool(outcome.text) or not outcome.error
    return Result(
        mode=mode.name,
        kind=mode.kind,
        budget=mode.budget,
        id=record.id,
        group=record.group or "all",
        domain=record.domain or size_domain(outcome.size_px),
        needs_detail=record.needs_detail,
        question=record.question,
        truths=record.answers,
        answer=answer,
        score=data.score(record, answer) if has_answer else 0.0,
        route=outcome.route,
        p_refine=outcome.p_refine,
        box_px=outcome.box_px,
        evidence_px=record.evidence_px,
        size_px=outcome.size_px,
        coarse_tokens=outcome.coarse_tokens,
        roi_tokens=outcome.roi_tokens,
        cpu_s=outcome.cpu_s,
        wall_s=outcome.wall_s,
        error=outcome.error,
        question_kind=record.kind,
    )
