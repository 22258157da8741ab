"""How sure is a mean? Bootstrap intervals over the measured values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its 95 % interval.

    Attributes:
        value: The mean.
        low: Lower end, the 2.5 % quantile of the resampled means.
        high: Upper end, the 97.5 % quantile.
        count: Values it was taken over.
    """

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_difference(
    first: Sequence[float], second: Sequence[float], *, resamples: int = 1000, seed: int = 0
) -> Mean:
    """Mean of first - second over the same questions, with its paired-bootstrap interval.

    Args:
        first: Values of one mode, by question.
        second: Values of the other, in the same order.
        resamples: Number of resampled means.
        seed: Of the resampling.

    Raises:
        ValueError: If there is no value, or the lengths differ.
    """
    differences = [a - b for a, b in zip(first, second, strict=True)]
    return bootstrap_mean(differences, resamples=resamples, seed=seed)


def bootstrap_mean(values: Sequence[float], *, resamples: int = 1000, seed: int = 0) -> Mean:
    """Mean and percentile-bootstrap interval.

    Args:
        values: The measured values, at least one.
        resamples: Number of resampled means.
        seed: Of the resampling, so that a report can be made again.

    Raises:
        ValueError: If there is no value.
    """
    if not values:
        raise ValueError("no values to take the mean of")
    data = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = np.array([data[rng.integers(0, len(data), len(data))].mean() for _ in range(resamples)])
    low, high = np.quantile(means, (0.025, 0.975))
    return Mean(float(data.mean()), float(low), float(high), len(data))
