"""How far a run is: by steps (reproducible), or by time (done when it must be done)."""

import time
from dataclasses import dataclass, field
from typing import Literal


@dataclass(slots=True)
class Clock:
    """Progress of a run across restarts."""

    kind: Literal["steps", "core", "wall"]
    limit: float
    """Steps, or seconds."""
    spent_s: float = 0.0
    """Seconds that earlier runs took (from the checkpoint)."""
    _start: float = field(init=False)

    def __post_init__(self) -> None:
        self._start = self._now()

    def _now(self) -> float:
        return time.process_time() if self.kind == "core" else time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds spent, earlier runs included."""
        return self.spent_s + self._now() - self._start

    def progress(self, step: int) -> float:
        """Part of the run that lies behind, in [0, 1]."""
        done = step if self.kind == "steps" else self.elapsed_s
        return min(1.0, done / self.limit)

    def eta_s(self, step: int) -> float:
        """Seconds that remain at the present pace."""
        progress = self.progress(step)
        return self.elapsed_s * (1 - progress) / progress if progress > 0 else float("inf")
