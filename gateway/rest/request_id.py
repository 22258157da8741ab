"""Every response names its request, in the header x-request-id."""

import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = "x-request-id"


class RequestIdHeader:
    """Gives a request without an id one, and writes the id into the response.

    Args:
        app: What answers.
        written_upstream: Whether a proxy in front does both already.
    """

    def __init__(self, app: ASGIApp, *, written_upstream: bool) -> None:
        self._app = app
        self._written_upstream = written_upstream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with an id."""
        if scope["type"] != "http" or self._written_upstream:
            await self._app(scope, receive, send)
            return
        request_id = Headers(scope=scope).get(REQUEST_ID)
        if request_id is None:
            request_id = uuid.uuid4().hex
            named = (REQUEST_ID.encode(), request_id.encode())
            scope = {**scope, "headers": [*scope["headers"], named]}

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)
