"""The client for programs without asyncio."""

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from qzoom.client.answers import Answer, Started
from qzoom.client.failures import BrokenAnswer
from qzoom.client.pictures import PictureSource
from qzoom.client.question import Chosen, Question, build_question
from qzoom.client.rest import Event, RestTransport, deadline_ms
from qzoom.client.retries import Retries
from qzoom.client.rpc import RpcTransport, is_rpc
from qzoom.errors import QZoomError

Result = TypeVar("Result")
KEY_VARIABLE = "QZOOM_API_KEY"
DEFAULT_TIMEOUT_S = 120.0


def key_headers(api_key: str | None) -> dict[str, str]:
    """Say who asks; the variable `QZOOM_API_KEY` stands in for a key that is not given."""
    key = os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key
    return {"authorization": f"Bearer {key}"} if key else {}


class Stream:
    """A streamed answer: iterate over the pieces of its text, within a `with` block.

    Attributes:
        started: What is known since decoding began; None before the first piece.
    """

    def __init__(self, events: Generator[Event, None, None]) -> None:
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

    def __iter__(self) -> Iterator[str]:
        """Give the pieces of the text.

        Raises:
            QZoomError: What the server says in place of the rest.
        """
        for event in self._events:
            match event:
                case Started():
                    self.started = event
                case Answer():
                    self._answer = event
                case str():
                    yield event
        if self._answer is None:
            raise BrokenAnswer("the stream broke off")

    def __enter__(self) -> Self:
        """Nothing is asked before the first piece is read."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel what was not read."""
        self._events.close()


class Client:
    """Asks a server. Safe to use from several threads; close it, or use it in a `with` block.

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
        kind = RpcTransport if is_rpc(url) else RestTransport
        self._transport: RpcTransport | RestTransport = kind(url, key_headers(api_key))
        self._model = model
        self._timeout_s = timeout_s
        self._retries = retries or Retries()

    def ask(
        self,
        picture: "PictureSource | Sequence[PictureSource]",
        question: str,
        *,
        timeout_s: float | None = None,
        **chosen: Unpack[Chosen],
    ) -> Answer:
        """Ask a question about a picture, and wait for the whole answer.

        Args:
            picture: A path, the bytes of a file, a Pillow picture or a URL; or several of them.
            question: What to ask.
            timeout_s: Instead of the client's own.
            **chosen: `route`, `tau_gate`, `explain`, `max_tokens`, ...: see `build_question`.

        Raises:
            QZoomError: As the server refused, or `NotConnected`, or `DeadlineExceeded`.
        """
        return self.answer(build_question(picture, question, **chosen), timeout_s=timeout_s)

    def answer(self, question: Question, *, timeout_s: float | None = None) -> Answer:
        """As `ask`, with a question that was put together before."""
        can_repeat = question.idempotency_key is not None
        if can_repeat:
            limit_s = self._timeout_s if timeout_s is None else timeout_s
            question = question.settled(deadline_ms(limit_s))
        return self._retrying(
            lambda left_s: self._transport.answer(question, self._name(left_s), left_s),
            timeout_s,
            can_repeat=can_repeat,
        )

    def stream(
        self,
        picture: "PictureSource | Sequence[PictureSource]",
        question: str,
        *,
        timeout_s: float | None = None,
        **chosen: Unpack[Chosen],
    ) -> Stream:
        """Ask, and read the answer piece by piece; arguments as for `ask`.

        Until the first piece it is asked again as `ask` does; later failures are raised.
        """
        built = build_question(picture, question, **chosen)
        return Stream(self._events(built, timeout_s))

    def models(self) -> list[str]:
        """List the models that the server serves; over REST."""
        return [str(model["id"]) for model in self.get("/v1/models")["data"]]

    def get(self, path: str, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Fetch a JSON document such as `/v1/stats` or `/v1/traces/{id}`; over REST."""
        return self._retrying(lambda left_s: self._transport.get(path, left_s), timeout_s)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        """Give the client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _name(self, left_s: float) -> str:
        if self._model is None:
            listed = self._transport.get("/v1/models", left_s)
            self._model = str(listed["data"][0]["id"])
        return self._model

    def _retrying(
        self,
        call: Callable[[float], Result],
        timeout_s: float | None,
        *,
        can_repeat: bool = False,
    ) -> Result:
        end = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        tried = 0
        while True:
            tried += 1
            try:
                return call(max(0.001, end - time.monotonic()))
            except QZoomError as error:
                left_s = end - time.monotonic()
                pause = self._retries.pause_s(error, tried, left_s, can_repeat=can_repeat)
                if pause is None:
                    raise
            time.sleep(pause)

    def _events(self, question: Question, timeout_s: float | None) -> Generator[Event, None, None]:
        def begin(left_s: float) -> tuple[Event, Generator[Event, None, None]]:
            events = self._transport.events(question, self._name(left_s), left_s)
            try:
                return next(events), events
            except StopIteration:
                raise BrokenAnswer("the stream broke off") from None

        first, events = self._retrying(begin, timeout_s)
        with closing(events):
            yield first
            yield from events
