"""How is a time measured so that a busy machine does not decide the comparison?

Rivals run in turn, round after round, so that noise hits all alike; the first round does not count.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles of a measured quantity, in its own unit."""

    median: float
    low: float
    high: float

    def text(self, digits: int = 2) -> str:
        """Write as `median (low-high)`."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"

    def scaled(self, factor: float) -> "Spread":
        """Change the unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)


def spread(values: Sequence[float]) -> Spread:
    """Summarise measured values.

    Raises:
        ValueError: With fewer than two of them, which have no spread.
    """
    if len(values) < 2:
        raise ValueError(f"{len(values)} measurement has no spread, at least 2 are needed")
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


@dataclass(frozen=True, slots=True)
class Cost:
    """One run.

    Attributes:
        wall_s: Seconds on the clock.
        cpu_s: Seconds that all threads of this process computed.
    """

    wall_s: float
    cpu_s: float


def cost_of(work: Callable[[], object]) -> Cost:
    """Run something once and take its time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def interleave(
    cases: Mapping[str, Callable[[], object]],
    rounds: int,
    on_run: Callable[[str], None] = lambda _name: None,
) -> dict[str, list[Cost]]:
    """Run all cases in turn, `rounds` times, after one round that does not count.

    Args:
        cases: What to run, by name.
        rounds: Measurements of each case.
        on_run: Told the name of each case before it runs.

    Returns:
        The costs of each case, in the order of the rounds.
    """
    found: dict[str, list[Cost]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, work in cases.items():
            on_run(name)
            cost = cost_of(work)
            if number:
                found[name].append(cost)
    return found


def ratios(costs: Sequence[float], base: Sequence[float]) -> Spread:
    """Compare two cases round by round, so that what disturbed both cancels out."""
    return spread([one / other for one, other in zip(costs, base, strict=True)])
