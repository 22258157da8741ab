"""How long does a request take at least? From what the stages said of recent ones."""

from collections import deque

from qzoom.contracts.options import Route
from qzoom.telemetry.names import STAGES, Span

NUM_KEPT = 64
"""Calls of each stage that are remembered."""

QUANTILE = 0.1
"""Of these; what a request takes at least must not be an average."""

_TO_FIRST_TOKEN = (Span.ENCODER_COARSE, Span.GATE_PREFILL, Span.LLM_RESUME)
_TO_ZOOM = (Span.RPN_PROPOSE, Span.ENCODER_ROI)


class StageTimes:
    """Recent times of computation of each stage, as one gateway was told."""

    def __init__(self) -> None:
        self._recent: dict[Span, deque[float]] = {span: deque(maxlen=NUM_KEPT) for span in STAGES}

    def observe(self, stage: Span, compute_s: float) -> None:
        """Note how long a batch took, in seconds."""
        self._recent[stage].append(compute_s)

    def least_s(self, route: Route) -> float:
        """Seconds to the first token if nothing else is going on; 0 while nothing is known.

        Args:
            route: That the client chose; `auto` may be direct.
        """
        stages = _TO_FIRST_TOKEN + (_TO_ZOOM if route == "zoom" else ())
        return sum(self._low(self._recent[stage]) for stage in stages)

    @staticmethod
    def _low(times: deque[float]) -> float:
        return sorted(times)[int(QUANTILE * len(times))] if times else 0.0
