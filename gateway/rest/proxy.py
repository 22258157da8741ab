"""What must happen before a request reaches a gateway? In Ray Serve's HTTP proxy, as middleware.

Serve's proxy obeys two headers that strangers must not control, and queues a request's whole body
in memory. It takes middleware from the function that this variable names, which must be set where
Ray starts: RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=gateway.rest.proxy.proxy_middleware
"""

import uuid

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.rest.errors import error_response
from qzoom.contracts.request import Limits
from qzoom.errors import TooLarge

_OBEYED_BY_SERVE = (b"x-request-timeout-seconds", b"x-request-disconnect-disabled")


def proxy_middleware() -> list[Middleware]:
    """Give the middleware of Serve's HTTP proxy; called by Serve."""
    return [Middleware(ProxyGuard, max_body_bytes=Limits().max_body_bytes)]


class ProxyGuard:
    """Hides Serve's own headers from Serve, and refuses long bodies while they arrive.

    Args:
        app: The proxy.
        max_body_bytes: Longest body that a gateway takes.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = [item for item in scope["headers"] if item[0].lower() not in _OBEYED_BY_SERVE]
        scope = {**scope, "headers": headers}
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._max_body_bytes:
            await self._refuse(scope, receive, send)
            return
        await self._pass_on(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        num_bytes = 0
        answering = False

        async def counted_receive() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            # To Serve a body that grows too long is a client that went away: it cancels the call.
            return {"type": "http.disconnect"} if self._is_too_long(num_bytes) else message

        async def guarded_send(message: Message) -> None:
            nonlocal answering
            if answering or not self._is_too_long(num_bytes):
                answering = True
                await send(message)

        await self._app(scope, counted_receive, guarded_send)
        if self._is_too_long(num_bytes) and not answering:
            await self._refuse(scope, receive, send)

    def _is_too_long(self, num_bytes: int) -> bool:
        return num_bytes > self._max_body_bytes

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = TooLarge(f"the body has more than {self._max_body_bytes} bytes")
        response = error_response(error)
        # The proxy, which names requests, stands behind this.
        response.headers["x-request-id"] = Headers(scope=scope).get(
            "x-request-id", uuid.uuid4().hex
        )
        await response(scope, receive, send)
