"""How does a client of the load generator ask? A stream over REST or gRPC, timed token by token."""

import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import grpc
import httpx

from benchmarks.servers.launch import Endpoint
from qzoom.pb import qzoom_pb2 as pb
from qzoom.pb import qzoom_pb2_grpc

REQUEST_TIMEOUT_S = 120.0
MAX_MESSAGE_BYTES = 32 * 2**20

Interface = Literal["rest", "grpc"]


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a load.

    Attributes:
        image: PNG or JPEG file.
        question: About the picture.
        truth: The right answer; None if nobody knows it.
        method: The `qzoom` object of the request; empty leaves everything to the server.
        max_tokens: Most tokens of the answer.
    """

    image: bytes
    question: str
    truth: str | None = None
    method: dict[str, Any] = field(default_factory=dict)
    max_tokens: int = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """One answered or failed request.

    Attributes:
        item: Index of the question.
        text: The answer.
        ttft_s: Seconds from the sending to the first token; None if none came.
        total_s: Seconds to the end.
        num_pieces: Pieces of text that arrived.
        error: What went wrong, None if nothing did.
        extra: What our system says of the request, named as over REST.
    """

    item: int
    text: str
    ttft_s: float | None
    total_s: float
    num_pieces: int
    error: str | None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def tpot_s(self) -> float | None:
        """Seconds per piece of text after the first; None with fewer than two."""
        if self.ttft_s is None or self.num_pieces < 2:
            return None
        return (self.total_s - self.ttft_s) / (self.num_pieces - 1)


class Client(Protocol):
    """Asks one server."""

    async def ask(self, index: int, item: Item) -> Sample:
        """Ask one question and wait for the end of the answer; failures are part of the sample."""
        ...


@asynccontextmanager
async def open_client(endpoint: Endpoint, interface: Interface) -> AsyncIterator[Client]:
    """Connect to a server for the length of a block.

    Raises:
        ValueError: If the server has no such interface.
    """
    if interface == "rest":
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        async with httpx.AsyncClient(
            base_url=endpoint.url, timeout=REQUEST_TIMEOUT_S, limits=limits, trust_env=False
        ) as http:
            yield RestClient(http, endpoint.model)
        return
    if endpoint.grpc_target is None:
        raise ValueError(f"{endpoint.name} has no gRPC interface")
    options = [("grpc.max_send_message_length", MAX_MESSAGE_BYTES)]
    async with grpc.aio.insecure_channel(endpoint.grpc_target, options=options) as channel:
        yield GrpcClient(channel, endpoint.model)


def chat_body(
    picture: bytes, question: str, *, model: str, extra: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Build a streaming chat completion about one PNG or JPEG picture."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    url = f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
    message = {"role": "user", "content": content}
    return {
        "model": model, "messages": [message], "stream": True, "max_tokens": 16, **(extra or {}),
    }  # fmt: skip


class RestClient:
    """Asks over REST, as any OpenAI client does.

    Args:
        http: Connected to the server.
        model: Model's name there.
    """

    def __init__(self, http: httpx.AsyncClient, model: str) -> None:
        self._http, self._model = http, model
        self._bodies: dict[int, tuple[Item, bytes]] = {}

    async def ask(self, index: int, item: Item) -> Sample:
        """See `Client`."""
        body = self._body(index, item)
        began, first, pieces = time.perf_counter(), None, []
        error: str | None = None
        extra: dict[str, Any] = {}
        try:
            async with self._http.stream(
                "POST",
                "/v1/chat/completions",
                content=body,
                headers={"content-type": "application/json"},
            ) as response:
                if response.status_code != httpx.codes.OK:
                    error = f"HTTP {response.status_code}"
                    await response.aread()
                else:
                    async for line in response.aiter_lines():
                        text, said = _read_event(line)
                        extra |= said
                        if text:
                            first = first or time.perf_counter() - began
                            pieces.append(text)
        except httpx.HTTPError as failure:
            error = type(failure).__name__
        return _sample(index, pieces, first, time.perf_counter() - began, error, extra)

    def _body(self, index: int, item: Item) -> bytes:
        # Written once, so that the generator's own work stays small beside the server's.
        written_for, body = self._bodies.get(index, (None, b""))
        if written_for is not item:
            extra: dict[str, Any] = {"max_tokens": item.max_tokens}
            if item.method:
                extra["qzoom"] = item.method
            fields = chat_body(item.image, item.question, model=self._model, extra=extra)
            body = json.dumps(fields).encode()
            self._bodies[index] = item, body
        return body


class GrpcClient:
    """Asks over our gRPC interface.

    Args:
        channel: To the server.
        model: Model's name there.
    """

    def __init__(self, channel: grpc.aio.Channel, model: str) -> None:
        self._stub, self._model = qzoom_pb2_grpc.QZoomStub(channel), model

    async def ask(self, index: int, item: Item) -> Sample:
        """See `Client`."""
        method = dict(item.method)
        route = f"ROUTE_{str(method.pop('route', 'auto')).upper()}"
        content = [pb.Part(image_url=pb.ImageUrl(data=item.image)), pb.Part(text=item.question)]
        request = pb.AnswerRequest(
            model=self._model,
            max_tokens=item.max_tokens,
            messages=[pb.Message(role=pb.ROLE_USER, content=content)],
            qzoom=pb.Options(route=route, **method),
        )
        began, first, pieces = time.perf_counter(), None, []
        error: str | None = None
        extra: dict[str, Any] = {}
        try:
            async for event in self._stub.AnswerStream(request, timeout=REQUEST_TIMEOUT_S):
                kind = event.WhichOneof("event")
                if kind == "started":
                    extra |= _read_started(event.started)
                elif kind == "delta" and event.delta.text:
                    first = first or time.perf_counter() - began
                    pieces.append(event.delta.text)
                elif kind == "finished" and event.finished.degraded:
                    extra["degraded"] = event.finished.degraded
        except grpc.RpcError as failure:
            error = f"gRPC {failure.code().name}"
        return _sample(index, pieces, first, time.perf_counter() - began, error, extra)


def _sample(
    index: int,
    pieces: list[str],
    first: float | None,
    total_s: float,
    error: str | None,
    extra: dict[str, Any],
) -> Sample:
    if error is None and first is None:
        error = "no text"
    return Sample(index, "".join(pieces), first, total_s, len(pieces), error, extra)


def _read_started(started: pb.Started) -> dict[str, Any]:
    """Return what REST says of the same: how the question was answered."""
    budgets = started.budgets
    return {
        "route": pb.Route.Name(started.route).removeprefix("ROUTE_").lower(),
        "tau_gate": started.tau_gate if started.HasField("tau_gate") else None,
        "budgets": {
            "max_visual_tokens": budgets.max_visual_tokens,
            "max_roi_tokens": budgets.max_roi_tokens,
        },
        "brownout": {"level": started.brownout.level} if started.HasField("brownout") else None,
    }


def _read_event(line: str) -> tuple[str, dict[str, Any]]:
    """Return the text of an event, and what our system says beside it."""
    if not line.startswith("data: {"):
        return "", {}
    event = json.loads(line.removeprefix("data: "))
    choices = event.get("choices") or [{}]
    said = event.get("qzoom")
    text = choices[0].get("delta", {}).get("content")
    return text or "", said if isinstance(said, dict) else {}
