"""Metrics by name, and what is done to an answer before any of them."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

from qzoom.errors import InvalidRequest
from qzoom.metrics.choice import multiple_choice, yes_or_no
from qzoom.metrics.contain import contains, contains_formula
from qzoom.metrics.match import anls, exact_match
from qzoom.metrics.relaxed import relaxed_accuracy
from qzoom.metrics.vqa import vqa_accuracy

MetricName = Literal[
    "exact_match", "anls", "relaxed", "vqa", "contains", "contains_formula", "choice", "yes_no"
]
Metric = Callable[[str, Sequence[str]], float]
"""(answer, right answers) -> score in [0, 1]."""

METRICS: Mapping[MetricName, Metric] = {
    "exact_match": exact_match,
    "anls": anls,
    "relaxed": relaxed_accuracy,
    "vqa": vqa_accuracy,
    "contains": contains,
    "contains_formula": contains_formula,
    "choice": multiple_choice,
    "yes_no": yes_or_no,
}

_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)


def metric(name: str) -> Metric:
    """Look a metric up.

    Raises:
        InvalidRequest: If there is none of that name.
    """
    for known in get_args(MetricName):
        if name == known:
            found: Metric = METRICS[known]
            return found
    raise InvalidRequest(f"metric is {name!r}, must be one of {', '.join(get_args(MetricName))}")


def final_answer(text: str) -> str:
    r"""Take the answer out of a longer text: what stands in <answer> tags or in \boxed{}.

    Returns:
        The content of the last of either, else the text itself; without spaces around.
    """
    tagged = _TAGGED.findall(text)
    if tagged:
        return str(tagged[-1]).strip()
    start = text.rfind(r"\boxed{")
    if start >= 0:
        boxed = _braced(text, start + len(r"\boxed{"))
        if boxed is not None:
            return boxed.strip()
    return text.strip()


def _braced(text: str, start: int) -> str | None:
    """Text up to the brace that closes the one before `start`."""
    depth = 1
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start:at]
    return None
