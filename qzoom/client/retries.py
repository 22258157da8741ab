"""When is a question asked again, and how soon? Only where no answer to it was begun."""

import random
from dataclasses import dataclass

from qzoom.client.failures import BrokenAnswer
from qzoom.errors import (
    KeyInUse,
    Overloaded,
    QuotaExceeded,
    QZoomError,
    StateLost,
    Unavailable,
)

SAFE = (Overloaded, QuotaExceeded, KeyInUse, StateLost, Unavailable)
"""The server refused, lost the state before the first token, or was never reached. A timeout and a
broken connection are not among them: the answer may have been computed, and paid for."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often, and how long to wait in between.

    Attributes:
        most: Retries after the first try; 0 gives up at once.
        first_s: Longest pause before the first retry; it doubles with each.
        longest_s: No pause is longer; a server that asks for more patience is not asked again.
    """

    most: int = 2
    first_s: float = 0.5
    longest_s: float = 20.0

    def pause_s(
        self, error: QZoomError, tried: int, left_s: float, *, can_repeat: bool = False
    ) -> float | None:
        """Say how long to wait before asking again.

        Args:
            error: What went wrong.
            tried: Tries so far, at least 1.
            left_s: Seconds until the caller's timeout.
            can_repeat: Whether the question has a name, so that asking twice is answered once.

        Returns:
            Seconds, random up to the doubled pause so that clients do not come back all at once,
            and at least what the server asked for. None if asking again is not safe, not allowed,
            or would come too late.
        """
        is_lost = isinstance(error, BrokenAnswer) and not can_repeat
        if tried > self.most or is_lost or not isinstance(error, SAFE):
            return None
        grown = min(self.longest_s, self.first_s * 2 ** (tried - 1))
        pause = random.uniform(grown / 2, grown) + (error.retry_after_s or 0.0)
        return pause if pause <= min(left_s, self.longest_s + grown) else None
