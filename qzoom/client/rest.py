"""How does the client speak REST? Over httpx, with what both of its kinds share written once."""

import json
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from qzoom.client.answers import Answer, Started, join_json
from qzoom.client.failures import BrokenAnswer, event_refusal, refusal, rest_failure
from qzoom.client.question import Question
from qzoom.contracts.request import Limits

Json = dict[str, Any]
Event = Started | str | Answer
"""What a stream gives: the start, then pieces of text, then the whole answer."""

CONNECT_S = 5.0
GRACE_S = 2.0
"""The server ends an answer at its deadline by itself, and knows better why; this is for when it
does not."""
CHAT = "/v1/chat/completions"


def chat_body(question: Question, model: str, left_s: float, *, stream: bool) -> Json:
    """Build the body; the server is told how long the caller waits, so that it stops then too."""
    body = question.to_json(model, stream=stream)
    body["qzoom"].setdefault("deadline_ms", deadline_ms(left_s))
    return body


def deadline_ms(left_s: float) -> int:
    """Turn what is left of the caller's time into a deadline that the server takes."""
    return max(1, min(round(left_s * 1000), Limits().max_deadline_ms))


def whole(document: Json) -> Answer:
    """Read a chat completion.

    Raises:
        BrokenAnswer: If it is none, or has no `qzoom` object.
    """
    try:
        [choice] = document["choices"]
        text, told, usage = choice["message"]["content"], document["qzoom"], document["usage"]
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenAnswer(f"the answer is not one of Q-Zoom Serve: {error!r}") from None
    return join_json(text, told, choice, usage, document)


class Chunks:
    """Puts the chunks of a stream together; knows nothing of sockets."""

    def __init__(self) -> None:
        self._told: Json = {}
        self._texts: list[str] = []
        self._last: Json = {}
        self._usage: Json = {}
        self._head: Json = {}

    def read(self, line: str) -> list[Event]:
        """Read one line of server-sent events; most give one event, some none.

        Raises:
            QZoomError: What the server says in place of the rest.
            BrokenAnswer: If the line is not ours.
        """
        if not line.startswith("data:"):
            return []
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            text = "".join(self._texts)
            return [join_json(text, self._told, self._last, self._usage, self._head)]
        try:
            return self._take(json.loads(data))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise BrokenAnswer(f"the stream is not one of Q-Zoom Serve: {error!r}") from None

    def _take(self, chunk: Json) -> list[Event]:
        if "error" in chunk:
            raise event_refusal(chunk["error"])
        self._head = chunk
        self._usage = chunk.get("usage") or self._usage
        events: list[Event] = []
        told = chunk.get("qzoom") or {}
        self._told |= told
        if "route" in told:
            events.append(Started.from_json(told))
        for choice in chunk["choices"]:
            if choice["finish_reason"] is not None:
                self._last = choice
            if text := choice["delta"].get("content"):
                self._texts.append(text)
                events.append(text)
        return events


def document_of(reply: httpx.Response) -> Json:
    """Read a JSON object.

    Raises:
        QZoomError: If the server refused.
        BrokenAnswer: If it is no JSON object.
    """
    if not reply.is_success:
        raise refusal(reply)
    try:
        document = reply.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise BrokenAnswer(f"{reply.url} did not answer with a JSON object; is it Q-Zoom Serve?")
    return document


def _timeout(left_s: float) -> httpx.Timeout:
    return httpx.Timeout(left_s + GRACE_S, connect=min(CONNECT_S, left_s))


@contextmanager
def _explained(url: str) -> Generator[None, None, None]:
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise rest_failure(error, url) from None


class RestTransport:
    """REST without asyncio. Safe to use from several threads.

    Args:
        url: Base address of the server.
        headers: Sent with every request.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url.rstrip("/")
        with _explained(url):
            self._http = httpx.Client(base_url=self._url, headers=headers)

    def get(self, path: str, left_s: float) -> Json:
        """Fetch a JSON document."""
        with _explained(self._url):
            return document_of(self._http.get(path, timeout=_timeout(left_s)))

    def answer(self, question: Question, model: str, left_s: float) -> Answer:
        """Ask, and wait for the whole answer."""
        body = chat_body(question, model, left_s, stream=False)
        with _explained(self._url):
            reply = self._http.post(
                CHAT, json=body, headers=question.headers, timeout=_timeout(left_s)
            )
        return whole(document_of(reply))

    def events(self, question: Question, model: str, left_s: float) -> Generator[Event, None, None]:
        """Ask, and give the answer as it comes; closing the generator cancels it."""
        body = chat_body(question, model, left_s, stream=True)
        chunks = Chunks()
        with (
            _explained(self._url),
            self._http.stream("POST", CHAT, json=body, timeout=_timeout(left_s)) as reply,
        ):
            if not reply.is_success:
                reply.read()
                raise refusal(reply)
            for line in reply.iter_lines():
                yield from chunks.read(line)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class AsyncRestTransport:
    """REST with asyncio.

    Args:
        url: Base address of the server.
        headers: Sent with every request.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url.rstrip("/")
        with _explained(url):
            self._http = httpx.AsyncClient(base_url=self._url, headers=headers)

    async def get(self, path: str, left_s: float) -> Json:
        """Fetch a JSON document."""
        with _explained(self._url):
            return document_of(await self._http.get(path, timeout=_timeout(left_s)))

    async def answer(self, question: Question, model: str, left_s: float) -> Answer:
        """Ask, and wait for the whole answer."""
        body = chat_body(question, model, left_s, stream=False)
        with _explained(self._url):
            reply = await self._http.post(
                CHAT, json=body, headers=question.headers, timeout=_timeout(left_s)
            )
        return whole(document_of(reply))

    async def events(
        self, question: Question, model: str, left_s: float
    ) -> AsyncGenerator[Event, None]:
        """Ask, and give the answer as it comes; closing the generator cancels it."""
        body = chat_body(question, model, left_s, stream=True)
        chunks = Chunks()
        with _explained(self._url):
            async with self._http.stream(
                "POST", CHAT, json=body, timeout=_timeout(left_s)
            ) as reply:
                if not reply.is_success:
                    await reply.aread()
                    raise refusal(reply)
                async for line in reply.aiter_lines():
                    for event in chunks.read(line):
                        yield event

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
