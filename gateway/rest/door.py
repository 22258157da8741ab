"""For whom is the door closed just now? Remembered in the proxy, where a refusal is cheap.

A gateway that refuses for want of room says for how long nobody needs to ask again: until the next
request leaves, some hundredths of a second. Until then the proxy refuses the same caller's requests
itself, before their bodies are read, so that refusing costs a tenth of what asking would. How many
these were, it tells with the next request that it passes on.
"""

import hashlib
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders

from qzoom.errors import Overloaded

CLOSED_MS = "x-qzoom-closed-ms"
"""Header of a refusal, from gateway to proxy: for how long the door is closed for this caller."""

REFUSED = "x-qzoom-refused"
"""Header of a request, from proxy to gateway: how many were refused here since the last one."""

MAX_CALLERS = 1024
MAX_CLOSED_S = 0.5


class Door:
    """Remembers callers who were refused.

    Args:
        clock: Gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._closed: dict[bytes, tuple[float, float]] = {}
        self._num_refused = 0

    def refusal(self, headers: Headers) -> Overloaded | None:
        """Why a request need not be passed on; None if it must be."""
        until, retry_after_s = self._closed.get(_caller(headers), (0.0, 0.0))
        if self._clock() >= until:
            return None
        self._num_refused += 1
        return Overloaded("as many requests wait as may", retry_after_s=retry_after_s)

    def refused(self, headers: Headers, response: MutableHeaders) -> None:
        """Learn from a refusal of the gateway, and take the note to the proxy out of it."""
        note = response.get(CLOSED_MS)
        if note is None:
            return
        del response[CLOSED_MS]
        now = self._clock()
        if len(self._closed) >= MAX_CALLERS:
            self._closed = {key: one for key, one in self._closed.items() if one[0] > now}
        if len(self._closed) < MAX_CALLERS:
            closed_s = min(int(note) / 1000, MAX_CLOSED_S)
            retry_after_s = float(response.get("retry-after", "1"))
            self._closed[_caller(headers)] = (now + closed_s, retry_after_s)

    def take_count(self) -> int:
        """How many were refused here since this was asked last."""
        count, self._num_refused = self._num_refused, 0
        return count


def _caller(headers: Headers) -> bytes:
    """Whose door it is: tenants are told apart by their credentials."""
    return hashlib.sha256(headers.get("authorization", "").encode()).digest()
