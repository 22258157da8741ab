"""How is a quota per minute counted? In a sliding window of whole seconds.

A request counts in the second in which it began, until that second is `WINDOW_S` behind: never do
more than the limit begin within any 60 s, over all gateways. A fixed window would let twice the
limit through around its edge, a token bucket as much within its first minute. `lua/admit.lua` does
the same inside Redis.
"""

from collections.abc import Sequence

from qzoom.store.limits import WINDOW_S

Usage = Sequence[tuple[int, int]]
"""(second, amount) of one resource, the oldest first."""


def oldest_second(now: float) -> int:
    """Return the first second that still counts: anything in it may be less than 60 s old."""
    return int(now) - WINDOW_S


def wait_s(usage: Usage, limit: int, amount: int, now: float) -> float:
    """Tell how long an amount must wait until it fits, if nobody else asks.

    Args:
        usage: What counts now.
        limit: Most that may count.
        amount: What shall be added; one that is above the limit waits as if it were the limit.
        now: Unix time in seconds.

    Returns:
        seconds: 0 where it fits now.
    """
    excess = sum(used for _, used in usage) + min(amount, limit) - limit
    for second, used in usage:
        if excess <= 0:
            break
        excess -= used
        if excess <= 0:
            return max(0.0, ends(second) - now)
    return 0.0


def reset_s(usage: Usage, now: float) -> float:
    """Tell in how many seconds nothing of a usage counts any more; 0 where nothing does."""
    return max((ends(second) - now for second, used in usage if used > 0), default=0.0)


def ends(second: int) -> float:
    """Unix time from which a second no longer counts."""
    return second + WINDOW_S + 1
