"""The client for programs with asyncio: `Client`, awaited."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from qzoom.client.answers import Answer, Started
from qzoom.client.failures import BrokenAnswer
from qzoom.client.pictures import PictureSource
from qzoom.client.question import Chosen, Question, build_question
from qzoom.client.rest import AsyncRestTransport, Event, deadline_ms
from qzoom.client.retries import Retries
from qzoom.client.rpc import AsyncRpcTransport, is_rpc
from qzoom.client.synchronous import DEFAULT_TIMEOUT_S, key_headers
from qzoom.errors import QZoomError

Result = TypeVar("Result")


class AsyncStream:
    """A streamed answer: iterate over the pieces of its text, within an `async with` block.

    Attributes:
        started: What is known since decoding began; None before the first piece.
    """

    def __init__(self, events: AsyncGenerator[Event, None]) -> None:
        self._events = events
        self._answer: Answer | None = None
        self.started: Started | None = None

    @property
    def answer(self) -> Answer:
        """The complete answer, once all pieces were read.

        Raises:
            BrokenAnswer: If the stream has not ended, or broke off.
        """
        if self._answer is None:
            raise BrokenAnswer("the stream has not ended")
        return self._answer

    async def __aiter__(self) -> AsyncIterator[str]:
        """Give the pieces of the text.

        Raises:
            QZoomError: What the server says in place of the rest.
        """
        async for event in self._events:
            match event:
                case Started():
                    self.started = event
                case Answer():
                    self._answer = event
                case str():
                    yield event
        if self._answer is None:
            raise BrokenAnswer("the stream broke off")

    async def __aenter__(self) -> Self:
        """Nothing is asked before the first piece is read."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel what was not read."""
        await self._events.aclose()


class AsyncClient:
    """Asks a server from one event loop; close it, or use it in an `async with` block.

    Args:
        url: `http(s)://host:port` for REST, `grpc(s)://host:port` for gRPC.
        model: Name of the model; over REST, None takes the first one that the server lists.
        api_key: Who asks; None takes the variable `QZOOM_API_KEY`, if it is set.
        timeout_s: Longest time of one question, retries included.
        retries: When to ask again.

    Raises:
        InvalidRequest: If the URL is none.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: Retries | None = None,
    ) -> None:
        kind = AsyncRpcTransport if is_rpc(url) else AsyncRestTransport
        self._transport: AsyncRpcTransport | AsyncRestTransport = kind(url, key_headers(api_key))
        self._model = model
        self._timeout_s = timeout_s
        self._retries = retries or Retries()

    async def ask(
        self,
        picture: "PictureSource | Sequence[PictureSource]",
        question: str,
        *,
        timeout_s: float | None = None,
        **chosen: Unpack[Chosen],
    ) -> Answer:
        """Ask a question about a picture; arguments and errors as for `Client.ask`."""
        # Reading and encoding a picture may take a while.
        built = await asyncio.to_thread(build_question, picture, question, **chosen)
        return await self.answer(built, timeout_s=timeout_s)

    async def answer(self, question: Question, *, timeout_s: float | None = None) -> Answer:
        """As `ask`, with a question that was put together before."""
        can_repeat = question.idempotency_key is not None
        if can_repeat:
            limit_s = self._timeout_s if timeout_s is None else timeout_s
            question = question.settled(deadline_ms(limit_s))

        async def once(left_s: float) -> Answer:
            return await self._transport.answer(question, await self._name(left_s), left_s)

        return await self._retrying(once, timeout_s, can_repeat=can_repeat)

    def stream(
        self,
        picture: "PictureSource | Sequence[PictureSource]",
        question: str,
        *,
        timeout_s: float | None = None,
        **chosen: Unpack[Chosen],
    ) -> AsyncStream:
        """Ask, and read the answer piece by piece; as `Client.stream`."""
        built = build_question(picture, question, **chosen)
        return AsyncStream(self._events(built, timeout_s))

    async def models(self) -> list[str]:
        """List the models that the server serves; over REST."""
        return [str(model["id"]) for model in (await self.get("/v1/models"))["data"]]

    async def get(self, path: str, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Fetch a JSON document such as `/v1/stats` or `/v1/traces/{id}`; over REST."""
        return await self._retrying(lambda left_s: self._transport.get(path, left_s), timeout_s)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        """Give the client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.aclose()

    async def _name(self, left_s: float) -> str:
        if self._model is None:
            listed = await self._transport.get("/v1/models", left_s)
            self._model = str(listed["data"][0]["id"])
        return self._model

    async def _retrying(
        self,
        call: Callable[[float], Awaitable[Result]],
        timeout_s: float | None,
        *,
        can_repeat: bool = False,
    ) -> Result:
        end = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        tried = 0
        while True:
            tried += 1
            try:
                return await call(max(0.001, end - time.monotonic()))
            except QZoomError as error:
                left_s = end - time.monotonic()
                pause = self._retries.pause_s(error, tried, left_s, can_repeat=can_repeat)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def _events(
        self, question: Question, timeout_s: float | None
    ) -> AsyncGenerator[Event, None]:
        async def begin(left_s: float) -> tuple[Event, AsyncGenerator[Event, None]]:
            events = self._transport.events(question, await self._name(left_s), left_s)
            try:
                return await anext(events), events
            except StopAsyncIteration:
                raise BrokenAnswer("the stream broke off") from None

        first, events = await self._retrying(begin, timeout_s)
        async with aclosing(events):
            yield first
            async for event in events:
                yield event
