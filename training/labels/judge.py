"""Is an answer right? The rules that need no other model."""

from collections.abc import Sequence
from typing import Literal

from qzoom.metrics.match import anls, exact_match, normalize

Match = Literal["exact", "anls", "contains"]


def is_right(answer: str, truths: Sequence[str], match: Match, threshold: float = 0.5) -> bool:
    """Judge one answer.

    Args:
        answer: Given.
        truths: Accepted.
        match: `exact` after normalisation; `anls` at least `threshold`; `contains`, one of the two
            contains the other after normalisation (the published rule, but an empty answer
            matches nothing).
        threshold: Of `anls`.
    """
    if match == "exact":
        return exact_match(answer, truths) == 1
    if match == "anls":
        return anls(answer, truths) >= threshold
    return any(is_contained(answer, truth) for truth in truths)


def is_contained(a: str, b: str) -> bool:
    """Whether one of two texts contains the other, ignoring case and punctuation."""
    first, second = normalize(a), normalize(b)
    return bool(first and second) and (first in second or second in first)
