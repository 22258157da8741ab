"""What if the gateway dies under a request? Serve says so in words of its own; here it is undone.

Serve's proxy answers for a gateway that died, or is not there, with a plain text that names actors
and nodes. Nothing of such an answer reaches a client: as long as nothing was sent, the request can
be given to another gateway; a stream that breaks off gets an end that says so.
"""

import json
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Send

from gateway.rest.errors import error_body
from qzoom.errors import QZoomError, StateLost, Unavailable

RETRY_AFTER_S = 1.0
ABSENT_RETRY_S = 5.0
_OWN_TYPES = ("application/json", "text/event-stream")


class Attempt:
    """One try of passing a request to a gateway.

    Args:
        arrived: The whole request.
        receive: What comes after it: that the client left.
        send: To the client.
    """

    def __init__(self, arrived: Sequence[Message], receive: Receive, send: Send) -> None:
        self._pending = list(reversed(arrived))
        self._receive, self._send = receive, send
        self._is_stream = False
        self._is_started = False
        self._is_complete = False
        self.error: QZoomError | None = None
        self.has_left = False

    def ended(self) -> None:
        """Note that the proxy has returned: for some gateways that die it sends nothing at all."""
        if self.error is None and not self._is_started:
            self.error = _lost()

    @property
    def may_be_repeated(self) -> bool:
        """Whether the gateway was lost before it sent anything, and somebody waits."""
        return self.error is not None and not self.has_left

    async def receive(self) -> Message:
        """Give the request to the gateway."""
        if self._pending:
            return self._pending.pop()
        message = await self._receive()
        self.has_left = self.has_left or message["type"] == "http.disconnect"
        return message

    async def send(self, message: Message) -> None:
        """Pass the answer on, unless it is Serve's own."""
        if message["type"] == "http.response.start":
            self.error = _serves_own(message)
            if self.error is None:
                self._is_started = True
                kind = Headers(raw=message["headers"]).get("content-type", "")
                self._is_stream = kind.startswith("text/event-stream")
        if self.error is not None:
            return
        self._is_complete = not message.get("more_body", False)
        if message["type"] == "http.response.start":
            self._is_complete = False
        await self._send(message)

    async def finish(self) -> None:
        """End a stream that broke off, with an error that says so."""
        if not self._is_stream or self._is_complete or self.has_left:
            return
        event = f"data: {json.dumps(error_body(_lost()))}\n\n".encode()
        await self._send({"type": "http.response.body", "body": event, "more_body": False})


def _serves_own(start: Message) -> QZoomError | None:
    """What an answer of Serve itself means; None if it is the gateway's.

    The gateway's errors are JSON, Serve's are plain text.
    """
    status = start["status"]
    kind = Headers(raw=start.get("headers", [])).get("content-type", "")
    if kind.startswith(_OWN_TYPES):
        return None
    if status == 500:
        return _lost()
    if status in {404, 503}:
        return Unavailable("the system is starting or stopping", retry_after_s=ABSENT_RETRY_S)
    return None


def _lost() -> StateLost:
    return StateLost("the gateway died while it answered", retry_after_s=RETRY_AFTER_S)
