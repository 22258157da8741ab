"""How long, and how late, may the head of a request be? uvicorn itself sets no bound to either.

A head that never ends would grow in the memory of Serve's proxy, and one that never comes would
keep its socket. What a message has beside its body counts: request line, headers, the frames of
chunks, and trailers, which are dropped.
"""

import asyncio
from typing import Any

from uvicorn.config import HTTP_PROTOCOLS, Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

MAX_HEAD_BYTES = 64 * 1024
"""Longest head. What comes with its last bytes in one read, at most 256 KiB, is not counted."""

MAX_HEAD_S = 30.0
"""Longest time from the connection, or from the first byte of a later request, to its head."""


class BoundedConnection(HttpToolsProtocol):
    """One connection of an HTTP server. Owns a timer while a head is to come."""

    max_head_bytes = MAX_HEAD_BYTES
    max_head_s = MAX_HEAD_S

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._overhead = 0
        self._num_body_bytes = 0
        self._has_begun = False
        self._has_head = False
        self._timer: asyncio.TimerHandle | None = None
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what came, and hang up where it is too much that is no body."""
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > self.max_head_bytes + self._num_body_bytes:
            self._hang_up(f"The head of the request has more than {self.max_head_bytes} bytes.")

    def on_message_begin(self) -> None:
        """A request begins; what is counted is its own."""
        super().on_message_begin()
        self._overhead = self._num_body_bytes = 0
        self._has_begun, self._has_head = True, False
        if self._timer is None:
            self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, but no trailer."""
        if not self._has_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head has come."""
        self._has_head = True
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count what is body."""
        self._overhead -= len(body)
        self._num_body_bytes += len(body)
        super().on_body(body)

    def _expect_head(self) -> None:
        self._timer = self.loop.call_later(self.max_head_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._has_begun:
            self._hang_up(f"The head of the request did not arrive within {self.max_head_s:g} s.")
        else:
            self.transport.close()

    def _hang_up(self, message: str) -> None:
        if not self.transport.is_closing():
            # Not into the middle of an answer, which ends early then.
            if self.cycle is None or self.cycle.response_complete:
                self.send_400_response(message)
            self.transport.close()


def use_bounded_connections() -> None:
    """Let servers that leave the choice of protocol to uvicorn, as Serve's proxy does, use these.

    To be called before they start.
    """
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedConnection.__name__}"
