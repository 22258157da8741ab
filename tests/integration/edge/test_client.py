"""`qzoom.client` against a gateway's edge on real sockets: every kind of it says the same."""

import asyncio
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest

from qzoom.client import (
    AsyncClient,
    BrokenAnswer,
    Brownout,
    Budgets,
    Client,
    NotConnected,
    Retries,
    StageMs,
)
from qzoom.errors import DeadlineExceeded, InvalidRequest, NotFound, Overloaded, Unavailable

QUICK = Retries(most=2, first_s=0.01)


class Awaited:
    """An `AsyncClient` used as a `Client`, each call in an event loop of its own."""

    def __init__(self, *args, **kwargs):
        self._make = lambda: AsyncClient(*args, **kwargs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, *args, **kwargs):
        async def run():
            async with self._make() as client:
                return await client.ask(*args, **kwargs)

        return asyncio.run(run())

    def read(self, *args, stop_after=None, **kwargs):
        async def run():
            pieces = []
            async with self._make() as client, client.stream(*args, **kwargs) as stream:
                async for piece in stream:
                    pieces.append(piece)
                    if len(pieces) == stop_after:
                        return pieces, stream.started, None
                return pieces, stream.started, stream.answer

        return asyncio.run(run())


class Plain(Client):
    def read(self, *args, stop_after=None, **kwargs):
        pieces = []
        with self.stream(*args, **kwargs) as stream:
            for piece in stream:
                pieces.append(piece)
                if len(pieces) == stop_after:
                    return pieces, stream.started, None
            return pieces, stream.started, stream.answer


@pytest.fixture(params=["REST", "gRPC"])
def url(request, edge_server):
    return edge_server.url if request.param == "REST" else f"grpc://{edge_server.grpc_address}"


@pytest.fixture(params=[Plain, Awaited], ids=["sync", "async"])
def client(request, url):
    with request.param(url, model="echo", retries=Retries(most=0)) as client:
        yield client


def test_an_answer_is_the_same_over_everything(client, picture):
    answer = client.ask(picture, "what is this?", route="zoom", explain=True)
    assert answer.text == "what is this? [64x48]"
    assert (answer.route, answer.p_refine, answer.tau_gate) == ("zoom", None, None)
    [region] = answer.boxes
    assert (region.image, region.box_px, region.score) == (0, (0, 0, 64, 48), 0.5)
    tokens = answer.visual_tokens
    assert (tokens.coarse, tokens.roi, tokens.spared) == (36, 9, 0)
    assert (answer.budgets, answer.brownout) == (Budgets(64, 48), None)
    assert client.ask(picture, "brown").brownout == Brownout(2, ("tau_gate",))
    assert answer.stage_ms == {"gate.prefill": StageMs(0.5, 2.0)}
    assert (answer.finish_reason, answer.prompt_tokens, answer.completion_tokens) == ("stop", 40, 4)
    assert (answer.degraded, answer.model) == (None, "echo")
    assert answer.request_id
    assert answer.trace_id == "0" * 31 + "1"
    assert answer.heatmap.dtype == np.float32
    assert np.array_equal(answer.heatmap, np.full((2, 3), 0.25, np.float32))
    assert answer.overlay(picture, "what is this?").width > 900


def test_a_stream_gives_pieces_then_the_same_answer(client, picture):
    pieces, started, answer = client.read(picture, "one two three", tau_gate=0.25)
    assert "".join(pieces) == answer.text == "one two three [64x48]"
    assert len(pieces) == 4
    assert (started.route, started.p_refine, started.tau_gate) == ("direct", 0.75, 0.25)
    whole = client.ask(picture, "one two three", tau_gate=0.25)
    assert answer.stage_ms == whole.stage_ms
    assert answer.visual_tokens == whole.visual_tokens
    assert answer.completion_tokens == whole.completion_tokens


def test_refusals_are_the_same_errors(client, picture):
    with pytest.raises(InvalidRequest, match="temperature is 3, at most 2") as bad:
        client.ask(picture, "?", temperature=3)
    assert bad.value.param == "temperature"
    with pytest.raises(Overloaded) as full:
        client.ask(picture, "refuse")
    assert full.value.retry_after_s == 3
    with pytest.raises(Overloaded):
        client.read(picture, "refuse")
    with pytest.raises(InvalidRequest, match="asks nothing"):
        client.ask(picture, " ")


def test_a_stream_that_breaks_is_no_answer(client, picture):
    with pytest.raises(Unavailable, match="llm service is gone"):
        client.read(picture, "break off")


def test_leaving_a_stream_cancels_it(client, picture, edge_server):
    pieces, _, _ = client.read(picture, "hang on", stop_after=1)
    assert pieces == ["hang"]
    end = time.monotonic() + 20
    while edge_server.flow.live and time.monotonic() < end:
        time.sleep(0.05)
    assert edge_server.flow.live == 0


def test_a_timeout_ends_the_wait_and_tells_the_server(client, picture, edge_server):
    with pytest.raises(DeadlineExceeded):
        client.ask(picture, "hang early", timeout_s=0.5)
    deadline = edge_server.flow.requests[-1].deadline
    assert deadline - time.time() < 1


@pytest.mark.parametrize("kind", [Plain, Awaited])
@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_no_server_is_said_so(kind, scheme, picture):
    with kind(f"{scheme}://127.0.0.1:9", model="m", retries=QUICK) as client:
        with pytest.raises(NotConnected, match=r"127\.0\.0\.1:9"):
            client.ask(picture, "?")
        with pytest.raises(NotConnected):
            client.read(picture, "?")


def test_the_model_is_the_first_that_is_listed(edge_server, picture):
    with Client(edge_server.url) as client:
        assert client.models() == ["echo"]
        assert client.ask(picture, "hello").model == "echo"
        with pytest.raises(NotFound):
            client.get("/v1/nothing")
    with (
        Client(f"grpc://{edge_server.grpc_address}") as client,
        pytest.raises(InvalidRequest, match="say which model"),
    ):
        client.ask(picture, "hello")


def test_a_nonsense_address_is_named(picture):
    with pytest.raises(InvalidRequest, match="no address"), Client("nonsense") as client:
        client.ask(picture, "?")


@contextmanager
def scripted(*replies):
    """A server that gives prepared (status, headers, body) replies; yields its URL and requests."""
    left, seen = list(replies), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            seen.append({name.lower(): value for name, value in self.headers.items()})
            status, headers, body = left.pop(0)
            if status is None:
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Keep the test's output free of access lines."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def canned(edge_server, ask):
    """A whole answer as the gateway sends it."""
    reply = httpx.post(f"{edge_server.url}/v1/chat/completions", json=ask(), timeout=30)
    return (200, {"content-type": "application/json"}, reply.content)


BUSY = (429, {"retry-after": "0"}, b'{"error": {"code": "overloaded", "message": "busy"}}')
PROXY = (503, {}, b"<html>upstream is gone</html>")


@pytest.mark.parametrize("kind", [Plain, Awaited])
def test_it_asks_again_until_there_is_an_answer(kind, picture, canned):
    with (
        scripted(BUSY, PROXY, canned) as (url, seen),
        kind(url, model="m", retries=QUICK) as client,
    ):
        assert client.ask(picture, "?").text == "what is this? [64x48]"
    assert len(seen) == 3


@pytest.mark.parametrize("kind", [Plain, Awaited])
def test_it_gives_up_after_its_retries(kind, picture):
    with scripted(BUSY, BUSY, BUSY) as (url, seen), kind(url, model="m", retries=QUICK) as client:
        with pytest.raises(Overloaded, match="busy"):
            client.ask(picture, "?")
        assert len(seen) == 3


@pytest.mark.parametrize("kind", [Plain, Awaited])
def test_a_connection_that_breaks_after_the_question_is_not_asked_again(kind, picture):
    broken = (None, {}, b"")
    with scripted(broken, broken) as (url, seen), kind(url, model="m", retries=QUICK) as client:
        with pytest.raises(BrokenAnswer):
            client.ask(picture, "?")
        assert len(seen) == 1


@pytest.mark.parametrize("kind", [Plain, Awaited])
def test_a_question_with_a_name_is_the_same_question_again(kind, picture, canned):
    with (
        scripted((None, {}, b""), BUSY, canned) as (url, seen),
        kind(url, model="m", retries=QUICK) as client,
    ):
        assert client.ask(picture, "?", idempotency_key="mine").text
    assert [headers["idempotency-key"] for headers in seen] == ["mine"] * 3
    assert len({headers["content-length"] for headers in seen}) == 1


def test_a_name_travels_over_everything(client, picture, edge_server):
    client.ask(picture, "named", idempotency_key="mine", timeout_s=30)
    request = edge_server.flow.requests[-1]
    assert request.idempotency_key == "mine"
    assert request.options.deadline_ms == 30_000


def test_another_server_is_recognised(picture):
    other = (200, {"content-type": "application/json"}, b'{"choices": []}')
    with scripted(other, (200, {}, b"hello")) as (url, _), Client(url, model="m") as client:
        for _ in range(2):
            with pytest.raises(BrokenAnswer, match=r"Q-Zoom Serve"):
                client.ask(picture, "?")


def test_the_key_is_sent_over_rest(picture, canned, monkeypatch):
    monkeypatch.setenv("QZOOM_API_KEY", "from-the-environment")
    with scripted(canned, canned) as (url, seen):
        with Client(url, model="m") as client:
            client.ask(picture, "?")
        with Client(url, model="m", api_key="given") as client:
            client.ask(picture, "?")
    keys = [headers["authorization"] for headers in seen]
    assert keys == ["Bearer from-the-environment", "Bearer given"]
