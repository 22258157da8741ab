"""POST /v1/chat/completions: from the body to the answer."""

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.responses import JSONResponse, Response

from gateway.edge import Edge, arrival
from gateway.requests import Arrival
from gateway.rest.answers import completion_object, head_object
from gateway.rest.authentication import caller_of
from gateway.rest.body import parse_object, read_body
from gateway.rest.door import REFUSED
from gateway.rest.errors import error_response
from gateway.rest.fields import known_fields
from gateway.rest.streaming import EventStream, until_disconnect
from qzoom.contracts.request import AnswerRequest
from qzoom.errors import InvalidRequest

LARGE_BYTES = 256 * 1024
"""A body from this size is parsed, and its pictures' base64 decoded, off the event loop."""

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
        if (count := request.headers.get(REFUSED, "")).isdecimal():
            edge.refused_early(int(count[:9]))
        came = arrival(request.headers, caller_of(request).tenant)
        try:
            return await _respond(edge, request, came)
        except Exception as error:
            return error_response(edge.explain(error, came.request_id), came.envelope.headers)

    return chat_completions


async def _respond(edge: Edge, request: Request, came: Arrival) -> Response:
    raw = await read_body(request, edge.limits)

    def understand() -> tuple[AnswerRequest, bool]:
        fields = known_fields(parse_object(raw))
        question = edge.read(fields, came)
        options = fields.get("stream_options") or {}
        return question, bool(options.get("include_usage"))

    if len(raw) < LARGE_BYTES:
        question, include_usage = understand()
    else:
        question, include_usage = await asyncio.to_thread(understand)
    if question.stream:
        return EventStream(edge, question, include_usage=include_usage)
    answer = await until_disconnect(request.receive, edge.answer(question))
    completion = completion_object(answer, head_object(question))
    return JSONResponse(completion, headers=question.envelope.headers)
