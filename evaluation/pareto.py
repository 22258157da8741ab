"""Accuracy against throughput (Fig. 8), and the speed-up at matched accuracy.

A curve is one kind of mode over its budgets. The base is compared with at its best point: "at
matched accuracy" means the fastest point of the other curve whose accuracy is at least that one's,
less a stated tolerance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from evaluation.results import Result, Run
from evaluation.summary import throughput
from qzoom.metrics.intervals import Mean, bootstrap_mean

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Point:
    """One mode at one budget.

    Attributes:
        budget: Most visual tokens; None for the model's own.
        accuracy: With its interval.
        speed: Requests a CPU second; through a gateway, requests a second one after another.
        visual_tokens: Mean over the questions.
    """

    budget: int | None
    accuracy: Mean
    speed: float
    visual_tokens: float


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """The comparison of two curves.

    Attributes:
        domain: Which questions; "all" for all of them.
        kind: Curve that is compared with the base.
        base: The base's most accurate point.
        matched: Fastest point of the curve that is as accurate; None if none is.
        speed_up: matched over base, with its paired-bootstrap interval; None likewise.
        token_reduction: Share of the base's visual tokens that are spared there.
        best: The curve's most accurate point.
        gain: best less base accuracy, paired, with its interval.
        base_rises: Whether the base's accuracy rises with every step of the sweep: a base that
            falls at length is undertrained, and no ratio should be quoted from it.
    """

    domain: str
    kind: str
    base: Point
    matched: Point | None
    speed_up: Mean | None
    token_reduction: float | None
    best: Point
    gain: Mean
    base_rises: bool


def curves(run: Run, domain: str = "all") -> dict[str, list[Point]]:
    """Points of every kind over its budgets, in the order of the budgets.

    Args:
        run: An evaluation of several budgets.
        domain: Take the questions of this domain only.
    """
    found: dict[str, list[Point]] = {}
    for results in _cells(run, domain).values():
        found.setdefault(results[0].kind, []).append(_point(results))
    for points in found.values():
        points.sort(key=lambda p: p.visual_tokens if p.budget is None else p.budget)
    return found


def domains(run: Run) -> list[str]:
    """Domains of a run, "all" first where there are several."""
    names = sorted({r.domain for r in run.results})
    return ["all", *names] if len(names) > 1 else ["all"]


def speed_up(
    run: Run, *, kind: str = "auto", domain: str = "all", tolerance: float = 0.0
) -> SpeedUp | None:
    """Compare a curve with the base's.

    Args:
        run: An evaluation of several budgets.
        kind: The curve.
        domain: Take the questions of this domain only.
        tolerance: How far below the base's best accuracy still counts as matched.

    Returns:
        None where the run lacks the base, the curve or costs.
    """
    cells = _cells(run, domain)
    bases = [r for (k, _), r in cells.items() if k == "base"]
    others = [r for (k, _), r in cells.items() if k == kind]
    if not bases or not others or any(throughput(r) is None for r in (*bases, *others)):
        return None
    # Ties go to the cheaper point, so that no ratio is made of a wasteful base.
    best_base = max(bases, key=lambda r: (_accuracy(r), _speed(r)))
    goal = _accuracy(best_base) - tolerance
    reaching = [r for r in others if _accuracy(r) >= goal]
    matched = max(reaching, key=_speed, default=None)
    best = max(others, key=lambda r: (_accuracy(r), _speed(r)))
    base_point = _point(best_base)
    ladder = [p.accuracy.value for p in curves(run, domain)["base"]]
    return SpeedUp(
        domain=domain,
        kind=kind,
        base=base_point,
        matched=_point(matched) if matched else None,
        speed_up=_ratio(matched, best_base) if matched else None,
        token_reduction=(
            1 - _point(matched).visual_tokens / base_point.visual_tokens if matched else None
        ),
        best=_point(best),
        gain=_paired(best, best_base),
        base_rises=all(a < b for a, b in pairwise(ladder)),
    )


def frontier(points: Sequence[Point]) -> list[Point]:
    """Points that no other one beats in both accuracy and speed, the fastest first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (-p.speed, -p.accuracy.value)):
        if not kept or point.accuracy.value > kept[-1].accuracy.value:
            kept.append(point)
    return kept


def _cells(run: Run, domain: str) -> Mapping[tuple[str, int | None], list[Result]]:
    cells: dict[tuple[str, int | None], list[Result]] = {}
    for result in run.results:
        if domain in {"all", result.domain}:
            cells.setdefault((result.kind, result.budget), []).append(result)
    return cells


def _point(results: Sequence[Result]) -> Point:
    tokens = sum(r.visual_tokens for r in results) / len(results)
    accuracy = bootstrap_mean([r.score for r in results])
    return Point(results[0].budget, accuracy, _speed(results), tokens)


def _speed(results: Sequence[Result]) -> float:
    found = throughput(results)
    return (
        found
        if found is not None
        else len(results) / max(1e-9, sum(r.wall_s or 0.0 for r in results))
    )


def _accuracy(results: Sequence[Result]) -> float:
    return sum(r.score for r in results) / len(results)


def _paired(first: Sequence[Result], second: Sequence[Result]) -> Mean:
    by_id = {r.id: r.score for r in second}
    return bootstrap_mean([r.score - by_id[r.id] for r in first])


def _ratio(fast: Sequence[Result], slow: Sequence[Result]) -> Mean:
    """Ratio of throughputs; questions are resampled in pairs."""
    by_id = {r.id: r.cpu_s or 0.0 for r in slow}
    fast_s = np.array([r.cpu_s or 0.0 for r in fast])
    slow_s = np.array([by_id[r.id] for r in fast])
    picks = np.random.default_rng(0).integers(0, len(fast_s), size=(RESAMPLES, len(fast_s)))
    ratios = slow_s[picks].sum(axis=1) / fast_s[picks].sum(axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Mean(float(slow_s.sum() / fast_s.sum()), float(low), float(high), len(fast_s))
