"""What must happen before a request reaches a gateway? In Ray Serve's HTTP proxy, as middleware.

Serve's proxy obeys headers that strangers must not control, fails where they are no UTF-8, and
gives a request a place in a gateway from its first byte on. Here those headers are hidden or
checked, bodies arrive in full before they take a place, and requests for which there is no room
just now are refused at once. Websockets, which nothing here speaks, are closed.

It takes middleware from the function that this variable names, which must be set where Ray starts:
RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=gateway.rest.proxy.proxy_middleware
It does not see the gateway's settings: its limits are the defaults.
"""

import asyncio
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.requests import check_request_id
from gateway.rest.attempt import Attempt
from gateway.rest.connection import use_bounded_connections
from gateway.rest.door import CLOSED_MS, REFUSED, Door
from gateway.rest.errors import error_response
from gateway.rest.request_id import REQUEST_ID
from qzoom.contracts.request import Limits
from qzoom.errors import InvalidRequest, Overloaded, QZoomError, TooLarge

QUESTION_PATH = "/v1/chat/completions"
SERVES_OWN_PATHS = "/-/"

TRIES = 3
"""Gateways that a request is given to, if they die before they send anything."""

MAX_ARRIVING_BYTES = 512 * 1024 * 1024
"""Bodies that have begun to arrive, all together."""

_HIDDEN = (
    b"x-request-timeout-seconds",
    b"x-request-disconnect-disabled",
    # They choose a replica.
    b"serve-multiplexed-model-id",
    b"x-session-id",
    REFUSED.encode(),
    CLOSED_MS.encode(),
)


def proxy_middleware() -> list[Middleware]:
    """Give the middleware of Serve's HTTP proxy; called by Serve, before its server starts."""
    use_bounded_connections()
    limits = Limits()
    return [
        Middleware(ProxyGuard, max_body_bytes=limits.max_body_bytes, max_body_s=limits.max_body_s)
    ]


def guarded(app: ASGIApp, limits: Limits) -> ASGIApp:
    """Put the same in front of an application that no proxy stands before.

    Args:
        app: Answers requests.
        limits: The gateway's own, of a body.
    """
    return ProxyGuard(app, max_body_bytes=limits.max_body_bytes, max_body_s=limits.max_body_s)


class ProxyGuard:
    """Lets whole, acceptable requests through, and hides Serve's own headers from Serve.

    Args:
        app: The proxy.
        max_body_bytes: Longest body that a gateway takes.
        max_body_s: Seconds that a body may take to arrive.
        door: Remembers for whom there is no room.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_body_bytes: int,
        max_body_s: float = 60.0,
        door: Door | None = None,
    ) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_body_s = max_body_s
        self._door = door or Door()
        self._num_arriving_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Serve takes an underscore for a dash.
        headers = [
            item for item in scope["headers"] if item[0].lower().replace(b"_", b"-") not in _HIDDEN
        ]
        scope = {**scope, "headers": headers}
        try:
            for named in Headers(scope=scope).getlist(REQUEST_ID):
                check_request_id(named)
        except InvalidRequest as unfit:
            unnamed = [item for item in headers if item[0] != REQUEST_ID.encode()]
            await _refuse(unfit, {**scope, "headers": unnamed}, receive, send)
            return
        if scope["path"].startswith(SERVES_OWN_PATHS):
            await self._app(scope, receive, send)
            return
        is_question = scope["path"] == QUESTION_PATH
        error = self._check(Headers(scope=scope), is_question=is_question)
        if error is not None:
            await _refuse(error, scope, receive, send)
            return
        arrived: list[Message] = []
        try:
            error = await self._arrive(receive, arrived)
        finally:
            self._num_arriving_bytes -= sum(len(message.get("body", b"")) for message in arrived)
        if error is not None:
            await _refuse(error, scope, receive, send)
        elif arrived[-1]["type"] != "http.disconnect":
            await self._pass_on(scope, arrived, receive, send)

    def _check(self, headers: Headers, *, is_question: bool) -> QZoomError | None:
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._max_body_bytes:
            return self._too_long()
        return self._door.refusal(headers) if is_question else None

    async def _arrive(self, receive: Receive, arrived: list[Message]) -> QZoomError | None:
        """Take in the whole body; gives what is wrong with it, if something is."""
        num_bytes = 0
        try:
            async with asyncio.timeout(self._max_body_s):
                while True:
                    message = await receive()
                    arrived.append(message)
                    size = len(message.get("body", b""))
                    num_bytes += size
                    self._num_arriving_bytes += size
                    if num_bytes > self._max_body_bytes:
                        return self._too_long()
                    if self._num_arriving_bytes > MAX_ARRIVING_BYTES:
                        return Overloaded("too much is being sent", retry_after_s=1.0)
                    if message["type"] == "http.disconnect" or not message.get("more_body"):
                        return None
        except TimeoutError:
            return InvalidRequest(f"the body did not arrive within {self._max_body_s:g} s")

    async def _pass_on(
        self, scope: Scope, arrived: list[Message], receive: Receive, send: Send
    ) -> None:
        asked = Headers(scope=scope)
        if count := self._door.take_count():
            named = (REFUSED.encode(), str(count).encode())
            scope = {**scope, "headers": [*scope["headers"], named]}

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                arrived.clear()
                message.setdefault("headers", [])
                self._door.refused(asked, MutableHeaders(scope=message))
            await send(message)

        for _ in range(TRIES):
            attempt = Attempt(arrived, receive, watched)
            await self._app({**scope}, attempt.receive, attempt.send)
            attempt.ended()
            if not attempt.may_be_repeated:
                await attempt.finish()
                return
        assert attempt.error is not None
        await _refuse(attempt.error, scope, receive, send)

    def _too_long(self) -> TooLarge:
        return TooLarge(f"the body has more than {self._max_body_bytes} bytes")


async def _refuse(error: QZoomError, scope: Scope, receive: Receive, send: Send) -> None:
    response = error_response(error)
    # The proxy, which names requests, stands behind this.
    response.headers[REQUEST_ID] = Headers(scope=scope).get(REQUEST_ID, uuid.uuid4().hex)
    await response(scope, receive, send)
