"""How do tokens get from the scheduler's thread to a client that may be slow?

A mailbox holds what was drawn since its reader last looked, merged into one message (the first one
is kept apart, since it marks the end of the prefill). The scheduler never waits for a reader, and
what a slow reader lets pile up is bounded by its own answer.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator

from qzoom.contracts.stages import Token


class Mailbox:
    """Carries one answer from the scheduler's thread to the event loop.

    Args:
        loop: The event loop of the reader.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._arrived = asyncio.Event()
        self._pending: deque[Token] = deque()
        self._error: BaseException | None = None

    def put(self, token: Token) -> None:
        """Add what was drawn; called by the scheduler's thread."""
        with self._lock:
            is_news = not self._pending
            if is_news or self._pending[-1].resume is not None:
                self._pending.append(token)
            else:
                self._pending[-1] = _merged(self._pending[-1], token)
        if is_news:
            self._loop.call_soon_threadsafe(self._arrived.set)

    def fail(self, error: BaseException) -> None:
        """End the answer with an error; called by the scheduler's thread."""
        with self._lock:
            self._error = error
        self._loop.call_soon_threadsafe(self._arrived.set)

    async def read(self) -> AsyncGenerator[Token, None]:
        """Yield tokens until one says why the answer ended.

        Raises:
            BaseException: What the scheduler passed to `fail`, after what was drawn before it.
        """
        while True:
            await self._arrived.wait()
            with self._lock:
                token = self._pending.popleft() if self._pending else None
                error = self._error
                if not self._pending and error is None:
                    self._arrived.clear()
            if token is not None:
                yield token
                if token.finish is not None:
                    return
            elif error is not None:
                raise error


def _merged(earlier: Token, later: Token) -> Token:
    return Token(
        text=earlier.text + later.text,
        ids=earlier.ids + later.ids,
        finish=later.finish,
        decode=later.decode,
    )
