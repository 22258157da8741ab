"""The methods of qzoom.v1.QZoom, as Ray Serve calls them on the ingress class: by their names.

Serve gives the call's context under the name `grpc_context`. Nothing is raised: an error goes into
the status of the call (`gateway.rpc.context.fail`).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from gateway.edge import Edge
from gateway.events import Started
from gateway.requests import Arrival
from gateway.rpc.answers import answer_message, event_message
from gateway.rpc.context import (
    CallContext,
    call_arrival,
    call_headers,
    error_message,
    fail,
    request_id,
    require_local,
    succeed,
)
from gateway.rpc.questions import place_uploads, question_fields
from gateway.rpc.upload import read_upload
from qzoom.contracts.request import Envelope
from qzoom.errors import QZoomError
from qzoom.pb import qzoom_pb2 as pb

Fields = dict[str, Any]


class QZoomMethods:
    """Mixin of the ingress class, which sets `edge`."""

    edge: Edge

    async def Answer(  # noqa: N802
        self, request: pb.AnswerRequest, grpc_context: CallContext
    ) -> pb.AnswerResponse:
        """Answer a question about one or more pictures."""

        async def read() -> Fields:
            return question_fields(request)

        return await self._answer(read, grpc_context)

    async def UploadAndAnswer(  # noqa: N802
        self, request: AsyncIterator[pb.UploadRequest], grpc_context: CallContext
    ) -> pb.AnswerResponse:
        """Answer a question about pictures that arrive in pieces."""

        async def read() -> Fields:
            pictures, question = await read_upload(request, self.edge.limits)
            return question_fields(place_uploads(question, len(pictures)), pictures)

        return await self._answer(read, grpc_context)

    async def AnswerStream(  # noqa: N802
        self, request: pb.AnswerRequest, grpc_context: CallContext
    ) -> AsyncGenerator[pb.AnswerEvent, None]:
        """Answer a question token by token."""
        envelope = Envelope()
        try:
            came = await self._admit(grpc_context)
            envelope = came.envelope
            question = self.edge.read(question_fields(request) | {"stream": True}, came)
            async with aclosing(self.edge.run(question)) as events:
                async for event in events:
                    if isinstance(event, Started):
                        succeed(grpc_context, envelope.headers)
                    yield event_message(event, envelope.request_id)
        except Exception as error:
            known = self._fail(error, grpc_context, envelope)
            # Serve sends status and metadata along with a message only, so the error is one too.
            yield pb.AnswerEvent(error=error_message(known, request_id(grpc_context)))

    async def _answer(
        self, read: Callable[[], Awaitable[Fields]], context: CallContext
    ) -> pb.AnswerResponse:
        envelope = Envelope()
        try:
            came = await self._admit(context)
            envelope = came.envelope
            question = self.edge.read(await read(), came)
            answer = await self.edge.answer(question)
        except Exception as error:
            self._fail(error, context, envelope)
            return pb.AnswerResponse()
        succeed(context, envelope.headers)
        return answer_message(answer, question)

    async def _admit(self, context: CallContext) -> Arrival:
        came = call_arrival(context)
        if self.edge.local_clients_only:
            require_local(context)
        caller = await self.edge.identify(call_headers(context))
        return replace(came, tenant=caller.tenant)

    def _fail(self, error: Exception, context: CallContext, envelope: Envelope) -> QZoomError:
        known = self.edge.explain(error, request_id(context))
        fail(context, known, envelope.headers)
        return known
