"""How does the client speak gRPC? With the generated stub, in both of grpc's kinds."""

from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from typing import Any, cast

import grpc

from qzoom.client.answers import Answer, Started, join_proto
from qzoom.client.failures import BrokenAnswer, rpc_failure
from qzoom.client.question import Question
from qzoom.client.rest import Event, deadline_ms
from qzoom.errors import InvalidRequest
from qzoom.pb import qzoom_pb2 as pb
from qzoom.pb import qzoom_pb2_grpc

SECURE = "grpcs://"
PLAIN = "grpc://"
Metadata = tuple[tuple[str, str], ...]


def is_rpc(url: str) -> bool:
    """Tell whether an address is one of gRPC."""
    return url.startswith((PLAIN, SECURE))


def _message(question: Question, model: str, left_s: float) -> pb.AnswerRequest:
    message = question.to_proto(model)
    if not message.qzoom.HasField("deadline_ms"):
        message.qzoom.deadline_ms = deadline_ms(left_s)
    return message


def _whole(reply: pb.AnswerResponse) -> Answer:
    started = Started.from_proto(reply.started)
    return join_proto(reply.text, started, reply.finished, reply.request_id, reply.model)


def _trailing(error: grpc.RpcError) -> Iterable[tuple[str, str | bytes]]:
    # Pairs in both of grpc's kinds, which the stubs do not say.
    return cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())


class _Events:
    """Puts the events of a stream together."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._started: Started | None = None
        self._request_id = ""
        self._texts: list[str] = []

    def read(self, event: pb.AnswerEvent) -> list[Event]:
        """Read one message. An `error` gives nothing: the call's status says the same, and more."""
        match event.WhichOneof("event"):
            case "started":
                self._started = Started.from_proto(event.started)
                self._request_id = event.started.request_id
                return [self._started]
            case "delta" if event.delta.text:
                self._texts.append(event.delta.text)
                return [event.delta.text]
            case "finished":
                if self._started is None:
                    raise BrokenAnswer("the stream ended before it began")
                text = "".join(self._texts)
                return [
                    join_proto(text, self._started, event.finished, self._request_id, self._model)
                ]
        return []


class RpcTransport:
    """gRPC without asyncio. Safe to use from several threads.

    Args:
        url: `grpc://host:port`, or `grpcs://host:port` for TLS.
        metadata: Sent with every call.
    """

    def __init__(self, url: str, metadata: Mapping[str, str]) -> None:
        self._address = url.removeprefix(SECURE).removeprefix(PLAIN).rstrip("/")
        self._metadata: Metadata = tuple(metadata.items())
        if url.startswith(SECURE):
            self._channel = grpc.secure_channel(self._address, grpc.ssl_channel_credentials())
        else:
            self._channel = grpc.insecure_channel(self._address)
        self._stub: Any = qzoom_pb2_grpc.QZoomStub(self._channel)

    def get(self, path: str, left_s: float) -> dict[str, Any]:
        """Refuse: gRPC has no documents.

        Raises:
            InvalidRequest: Always.
        """
        del left_s  # one shape for all
        raise InvalidRequest(f"{path} is served over REST only; over gRPC, say which model")

    def answer(self, question: Question, model: str, left_s: float) -> Answer:
        """Ask, and wait for the whole answer."""
        try:
            message = _message(question, model, left_s)
            metadata = (*self._metadata, *question.headers.items())
            return _whole(self._stub.Answer(message, timeout=left_s, metadata=metadata))
        except grpc.RpcError as error:
            raise rpc_failure(error, self._address, _trailing(error)) from None

    def events(self, question: Question, model: str, left_s: float) -> Generator[Event, None, None]:
        """Ask, and give the answer as it comes; closing the generator cancels it."""
        message, events = _message(question, model, left_s), _Events(model)
        call = self._stub.AnswerStream(message, timeout=left_s, metadata=self._metadata)
        try:
            for event in call:
                yield from events.read(event)
        except grpc.RpcError as error:
            raise rpc_failure(error, self._address, _trailing(error)) from None
        finally:
            call.cancel()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


class AsyncRpcTransport:
    """gRPC with asyncio.

    Args:
        url: `grpc://host:port`, or `grpcs://host:port` for TLS.
        metadata: Sent with every call.
    """

    def __init__(self, url: str, metadata: Mapping[str, str]) -> None:
        self._address = url.removeprefix(SECURE).removeprefix(PLAIN).rstrip("/")
        self._is_secure = url.startswith(SECURE)
        self._metadata: Metadata = tuple(metadata.items())
        self._channel: grpc.aio.Channel | None = None

    async def get(self, path: str, left_s: float) -> dict[str, Any]:
        """Refuse: gRPC has no documents.

        Raises:
            InvalidRequest: Always.
        """
        del left_s  # one shape for all
        raise InvalidRequest(f"{path} is served over REST only; over gRPC, say which model")

    async def answer(self, question: Question, model: str, left_s: float) -> Answer:
        """Ask, and wait for the whole answer."""
        message = _message(question, model, left_s)
        try:
            metadata = (*self._metadata, *question.headers.items())
            return _whole(await self._stub().Answer(message, timeout=left_s, metadata=metadata))
        except grpc.aio.AioRpcError as error:
            raise rpc_failure(error, self._address, _trailing(error)) from None

    async def events(
        self, question: Question, model: str, left_s: float
    ) -> AsyncGenerator[Event, None]:
        """Ask, and give the answer as it comes; closing the generator cancels it."""
        message, events = _message(question, model, left_s), _Events(model)
        call = self._stub().AnswerStream(message, timeout=left_s, metadata=self._metadata)
        try:
            async for received in call:
                for event in events.read(received):
                    yield event
        except grpc.aio.AioRpcError as error:
            raise rpc_failure(error, self._address, _trailing(error)) from None
        finally:
            call.cancel()

    def _stub(self) -> qzoom_pb2_grpc.QZoomStub:
        if self._channel is None:
            # A channel belongs to the event loop in which it is made.
            if self._is_secure:
                credentials = grpc.ssl_channel_credentials()
                self._channel = grpc.aio.secure_channel(self._address, credentials)
            else:
                self._channel = grpc.aio.insecure_channel(self._address)
        return qzoom_pb2_grpc.QZoomStub(self._channel)

    async def aclose(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close(None)
