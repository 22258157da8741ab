"""Does a computation hang? A replica that does fails its health check, and Serve replaces it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from qzoom.errors import Unavailable


class Watchdog:
    """Watches one thread.

    Args:
        service: Name of the service, for the message.
        max_busy_s: Longest that one computation may take.
    """

    def __init__(self, service: str, max_busy_s: float) -> None:
        self._service = service
        self._max_busy_s = max_busy_s
        self._busy_since: float | None = None

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Cover one computation."""
        self._busy_since = time.monotonic()
        try:
            yield
        finally:
            self._busy_since = None

    def check(self) -> None:
        """Look at the thread; called by health checks.

        Raises:
            Unavailable: If it has been busy with one computation for too long.
        """
        since = self._busy_since
        if since is not None and time.monotonic() - since > self._max_busy_s:
            raise Unavailable(
                f"{self._service}: a computation takes more than {self._max_busy_s:g} s"
            )
