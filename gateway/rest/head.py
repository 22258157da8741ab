"""HEAD is GET without the body, which the HTTP server in front leaves out by itself."""

from starlette.types import ASGIApp, Receive, Scope, Send


class HeadAsGet:
    """Lets every path that takes GET take HEAD too, as monitors ask.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)
