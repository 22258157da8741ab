"""What does each stage cost in one process? Routes run interleaved: noise hits all alike."""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.model.pipeline import Pipeline, Question


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles of a time, in milliseconds."""

    median_ms: float
    low_ms: float
    high_ms: float


def spread(seconds: list[float]) -> Spread:
    """Summarise measured times.

    Raises:
        ValueError: With fewer than two of them, which have no spread.
    """
    if len(seconds) < 2:
        raise ValueError(f"{len(seconds)} measurement has no spread, at least 2 are needed")
    low, median, high = (1e3 * q for q in statistics.quantiles(seconds, n=4))
    return Spread(median, low, high)


def measure(
    pipeline: Pipeline,
    picture: NDArray[np.uint8],
    question: str,
    cases: Mapping[str, Options],
    *,
    batch: int,
    max_tokens: int,
    rounds: int,
) -> Iterator[tuple[str, dict[str, float]]]:
    """Time all cases, round after round, after one round that does not count.

    Args:
        pipeline: The model.
        picture: [H, W, 3] RGB, uint8.
        question: What every request asks.
        cases: Name to what the requests ask for.
        batch: Equal requests that run together.
        max_tokens: Most tokens of each answer.
        rounds: Measurements of each case.

    Yields:
        Name of a case and its seconds per stage, once per case and round.
    """
    sampling = Sampling(max_tokens=max_tokens)
    for number in range(rounds + 1):
        for name, options in cases.items():
            request = Question(single_question(question), [picture], options, sampling)
            answer = pipeline.answer_many([request] * batch)[0]
            if number > 0:
                yield name, answer.stage_s
