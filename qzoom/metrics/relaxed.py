"""ChartQA's relaxed accuracy: a number may be off by five percent, a word may not."""

import math
from collections.abc import Sequence

TOLERANCE = 0.05


def relaxed_accuracy(answer: str, truths: Sequence[str]) -> float:
    """Score one answer.

    Both are numbers, and the truth is not 0: right within `TOLERANCE` of the truth. Else right if
    equal but for case. "45%" is 0.45.

    Returns:
        1.0 or 0.0, the best over the truths.
    """
    return float(any(_is_close(answer.strip(), truth.strip()) for truth in truths))


def _is_close(answer: str, truth: str) -> bool:
    given, wanted = _number(answer), _number(truth)
    if given is not None and wanted:
        return abs(given - wanted) <= TOLERANCE * abs(wanted)
    return answer.lower() == truth.lower()


def _number(text: str) -> float | None:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
