"""Is this answer right? Exact match after the usual normalisation, and ANLS for reading tasks."""

import string
from collections.abc import Sequence

ANLS_THRESHOLD = 0.5
"""Similarities below this count as zero, as in DocVQA's definition of ANLS."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """Lower-case, without ASCII punctuation, with single spaces."""
    return " ".join(text.lower().translate(_PUNCTUATION).split())


def exact_match(answer: str, truths: Sequence[str]) -> float:
    """1.0 if the normalised answer equals one of the normalised truths, else 0.0."""
    return float(normalize(answer) in {normalize(truth) for truth in truths})


def anls(answer: str, truths: Sequence[str]) -> float:
    """Average normalised Levenshtein similarity of one answer: the best over its truths.

    Returns:
        1 - distance / longer length, in [0, 1], or 0 below `ANLS_THRESHOLD`.
    """
    best = 0.0
    given = " ".join(answer.lower().split())
    for truth in truths:
        wanted = " ".join(truth.lower().split())
        longer = max(len(given), len(wanted))
        similarity = 1.0 if longer == 0 else 1.0 - edit_distance(given, wanted) / longer
        best = max(best, similarity)
    return best if best >= ANLS_THRESHOLD else 0.0


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance: fewest insertions, deletions and substitutions from a to b."""
    row = list(range(len(b) + 1))
    for i, char_a in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, char_b in enumerate(b, start=1):
            change = diagonal + (char_a != char_b)
            diagonal = row[j]
            row[j] = min(row[j] + 1, row[j - 1] + 1, change)
    return row[-1]
