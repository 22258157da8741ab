"""Nobody reads or asks anything under /v1/ without being known, where that is required."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.callers import ANYBODY, Caller
from gateway.rest.errors import error_response
from qzoom.errors import QZoomError

GUARDED = "/v1/"
"""What is beside it tells nothing about anybody's requests: health, metrics, pages, documents."""

_CALLER = "qzoom.caller"


class Authentication:
    """Finds out who asks, or answers that nobody knows.

    Args:
        app: What answers callers.
        identify: Finds out who asks; raises `QZoomError`.
    """

    def __init__(
        self, app: ASGIApp, identify: Callable[[Mapping[str, str]], Awaitable[Caller]]
    ) -> None:
        self._app = app
        self._identify = identify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its caller."""
        if scope["type"] == "http" and _is_guarded(scope):
            try:
                caller = await self._identify(Headers(scope=scope))
            except QZoomError as error:
                await error_response(error)(scope, receive, send)
                return
            scope = {**scope, _CALLER: caller}
        await self._app(scope, receive, send)


def _is_guarded(scope: Scope) -> bool:
    # As the router sees it: without the prefix under which the application is mounted.
    prefix, path = scope.get("root_path", ""), str(scope["path"])
    if prefix and path.startswith(f"{prefix}/"):
        path = path.removeprefix(prefix)
    return path.startswith(GUARDED)


def caller_of(request: Request) -> Caller:
    """Give who asks."""
    caller = request.scope.get(_CALLER, ANYBODY)
    assert isinstance(caller, Caller)
    return caller
