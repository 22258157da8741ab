"""How were the last minutes? Remembers what all gateways had counted, every few seconds.

Counters say what happened since the start. The difference of two of their totals says what happened
in between, which is what a person who looks at a dashboard wants to know.
"""

import time
from collections import deque

from qzoom.telemetry.metrics import Samples, is_gauge

PERIOD_S = 5.0
SPAN_S = 900.0
"""Longest window: a quarter of an hour."""


class History:
    """Totals of the last quarter of an hour. Bounded: one for every `PERIOD_S`."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._totals: deque[tuple[float, Samples]] = deque(maxlen=round(SPAN_S / PERIOD_S) + 1)

    @property
    def is_due(self) -> bool:
        """Whether the next total is wanted."""
        return not self._totals or time.monotonic() - self._totals[-1][0] >= PERIOD_S

    def note(self, total: Samples) -> None:
        """Keep a total; the oldest one goes."""
        self._totals.append((time.monotonic(), total))

    def since(self, window_s: float, total: Samples) -> tuple[Samples, float]:
        """Tell what was counted within a window that ends now.

        Args:
            window_s: Length in seconds; 0 means since the start.
            total: The newest total.

        Returns:
            Counters and histograms of the window, gauges as they are now; and the seconds that the
            window has in truth: it cannot reach behind the start.
        """
        now = time.monotonic()
        if not window_s or not self._totals:
            return total, now - self._began
        older = [item for item in self._totals if now - item[0] >= window_s]
        then, before = older[-1] if older else self._totals[0]
        grown = {
            key: value if is_gauge(key[0]) else max(0.0, value - before.get(key, 0.0))
            for key, value in total.items()
        }
        return grown, now - then
