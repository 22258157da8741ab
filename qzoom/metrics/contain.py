"""OCRBench's rule: the truth must stand somewhere in the answer."""

from collections.abc import Sequence

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
"""Full-width forms of ASCII, which stand for the same characters."""


def contains(answer: str, truths: Sequence[str]) -> float:
    """1.0 if one of the truths is part of the answer, ignoring case and line breaks, else 0.0."""
    given = _plain(answer)
    return float(any(_plain(truth) in given for truth in truths))


def contains_formula(answer: str, truths: Sequence[str]) -> float:
    """The same for formulae (HME100k): case matters, spaces do not."""
    given = "".join(answer.split())
    return float(any("".join(truth.split()) in given for truth in truths))


def _plain(text: str) -> str:
    return text.translate(_FULL_WIDTH).lower().strip().replace("\n", " ")
