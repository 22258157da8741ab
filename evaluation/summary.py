"""A mode in figures, with 95 % bootstrap intervals over the questions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.controls import constant_box_recall
from evaluation.results import Result
from qzoom.metrics.intervals import Mean, bootstrap_mean


@dataclass(frozen=True, slots=True)
class KindSummary:
    """The questions of one kind that need detail; all of that kind where nobody knows which do.

    Attributes:
        right: Score.
        zoom_share: Share of them that went to zoom.
        box_recall: Share of their RoIs, on known evidence, that hold the evidence's centre.
        box_area: Mean share of the picture that these RoIs cover.
    """

    right: Mean
    zoom_share: Mean
    box_recall: Mean | None
    box_area: Mean | None


@dataclass(frozen=True, slots=True)
class Summary:
    """A figure is None where no question bears on it.

    Attributes:
        mode: Name of the mode.
        kind: Its kind.
        budget: Its budget.
        all: Score over all questions.
        groups: Score by group.
        domains: Score by domain.
        kinds: Figures by kind of question; empty where no kind is known.
        p_refine: Mean score of the gate.
        zoom_share: Share of questions that went to zoom.
        zoom_on_detail: The same among questions that need detail.
        direct_on_coarse: Share of the others which stayed direct.
        box_recall: Share of RoIs, on questions with known evidence that needs detail, that hold the
            evidence's centre.
        box_area: Mean share of the picture that those RoIs cover.
        constant_box_recall: What one box for all pictures would hold, at the same area.
        visual_tokens: Mean visual tokens.
        cpu_ms: Mean CPU milliseconds of a request.
        per_cpu_s: Requests that one CPU second answers.
        domain_per_cpu_s: The same by domain.
        latency_ms: (median, 95th percentile) of the time to the whole answer; None where requests
            shared batches.
        errors: Questions without an answer, or with a degraded one.
    """

    mode: str
    kind: str
    budget: int | None
    all: Mean
    groups: dict[str, Mean]
    domains: dict[str, Mean]
    kinds: dict[str, KindSummary]
    p_refine: Mean | None
    zoom_share: Mean
    zoom_on_detail: Mean | None
    direct_on_coarse: Mean | None
    box_recall: Mean | None
    box_area: Mean | None
    constant_box_recall: float | None
    visual_tokens: float
    cpu_ms: Mean | None
    per_cpu_s: float | None
    domain_per_cpu_s: dict[str, float]
    latency_ms: tuple[float, float] | None
    errors: int


def summarize(results: Sequence[Result]) -> Summary:
    """Summarise the results of one mode.

    Raises:
        ValueError: If there is none.
    """
    if not results:
        raise ValueError("there is no result to summarise")
    detail = [r for r in results if r.needs_detail]
    # Where nobody knows which questions need detail, every RoI on known evidence counts.
    looked = detail if detail else list(results)
    boxed, recall, area = _boxes(looked)
    costs = [1e3 * r.cpu_s for r in results if r.cpu_s is not None]
    waits_ms = [1e3 * r.wall_s for r in results if r.wall_s is not None]
    return Summary(
        mode=results[0].mode,
        kind=results[0].kind,
        budget=results[0].budget,
        all=bootstrap_mean([r.score for r in results]),
        groups=_by(results, lambda r: r.group),
        domains=_by(results, lambda r: r.domain),
        kinds={
            kind: _of_kind([r for r in looked if r.question_kind == kind])
            for kind in sorted({r.question_kind for r in looked} - {""})
        },
        p_refine=_mean([r.p_refine for r in results if r.p_refine is not None]),
        zoom_share=bootstrap_mean([float(r.route == "zoom") for r in results]),
        zoom_on_detail=_mean([float(r.route == "zoom") for r in detail]),
        direct_on_coarse=_mean(
            [float(r.route == "direct") for r in results if r.needs_detail is False]
        ),
        box_recall=recall,
        box_area=area,
        constant_box_recall=constant_box_recall(boxed, area.value) if area else None,
        visual_tokens=sum(r.visual_tokens for r in results) / len(results),
        cpu_ms=_mean(costs),
        per_cpu_s=throughput(results),
        domain_per_cpu_s={
            domain: rate
            for domain in sorted({r.domain for r in results})
            if (rate := throughput([r for r in results if r.domain == domain])) is not None
        },
        latency_ms=quantiles(waits_ms),
        errors=sum(bool(r.error) for r in results),
    )


def quantiles(values: Sequence[float]) -> tuple[float, float] | None:
    """Median and 95th percentile; None of nothing."""
    if not values:
        return None
    median, high = np.quantile(values, (0.5, 0.95))
    return float(median), float(high)


def throughput(results: Sequence[Result]) -> float | None:
    """Requests that one CPU second answers; None where the CPU time is not known."""
    costs = [r.cpu_s for r in results if r.cpu_s is not None]
    return len(costs) / sum(costs) if costs and sum(costs) > 0 else None


def _of_kind(results: Sequence[Result]) -> KindSummary:
    _, recall, area = _boxes(results)
    return KindSummary(
        bootstrap_mean([r.score for r in results]),
        bootstrap_mean([float(r.route == "zoom") for r in results]),
        recall,
        area,
    )


def _boxes(results: Sequence[Result]) -> tuple[list[Result], Mean | None, Mean | None]:
    """The results whose evidence and RoI are known; how many hold it, and how large they are."""
    boxed = [r for r in results if r.evidence_in_box is not None]
    recall = _mean([float(bool(r.evidence_in_box)) for r in boxed])
    return boxed, recall, _mean([r.box_area for r in boxed if r.box_area is not None])


def _by(results: Sequence[Result], key: Callable[[Result], str]) -> dict[str, Mean]:
    names = sorted({key(r) for r in results})
    return {name: bootstrap_mean([r.score for r in results if key(r) == name]) for name in names}


def _mean(values: Sequence[float]) -> Mean | None:
    return bootstrap_mean(values) if values else None
