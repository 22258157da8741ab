"""POST /v1/chat/completions: from the body to the answer."""

from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.responses import JSONResponse, Response

from gateway.edge import Edge, arrival
from gateway.requests import Arrival
from gateway.rest.answers import completion_object
from gateway.rest.body import read_json
from gateway.rest.fields import known_fields
from gateway.rest.streaming import EventStream, until_disconnect
from qzoom.errors import InvalidRequest

DISCONNECT_DISABLED = "x-request-disconnect-disabled"
"""Serve's proxy keeps work alive behind it after the client left; strangers must not ask that."""


def chat_endpoint(edge: Edge) -> Callable[[Request], Awaitable[Response]]:
    """Build the endpoint over one edge."""

    async def chat_completions(request: Request) -> Response:
        """Answer a question about one or more pictures."""
        if DISCONNECT_DISABLED in request.headers:
            raise InvalidRequest(
                f"the header {DISCONNECT_DISABLED} is not supported", param=DISCONNECT_DISABLED
            )
        came = arrival(request.headers)
        try:
            return await _respond(edge, request, came)
        except Exception as error:
            raise edge.explain(error, came.request_id) from None

    return chat_completions


async def _respond(edge: Edge, request: Request, came: Arrival) -> Response:
    fields = known_fields(await read_json(request, edge.limits))
    question = edge.read(fields, came)
    head = {
        "id": f"chatcmpl-{came.request_id}",
        "created": int(came.received),
        "model": question.model,
    }
    if question.stream:
        options = fields.get("stream_options") or {}
        include_usage = bool(options.get("include_usage"))
        return EventStream(edge, question, head, include_usage=include_usage)
    answer = await until_disconnect(request.receive, edge.answer(question))
    return JSONResponse(completion_object(answer, head))
