"""The guard in Serve's proxy: which headers pass, and when a body is too long."""

import asyncio
import json

import pytest

from gateway.rest.proxy import ProxyGuard, proxy_middleware
from qzoom.contracts.request import Limits


class Proxy:
    """What stands behind the guard: reads the body, then answers with its length."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.messages: list[dict] = []

    async def __call__(self, scope, receive, send) -> None:
        self.headers = scope["headers"]
        while True:
            message = await receive()
            self.messages.append(message)
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"proxied"})


async def through_guard(proxy, headers=(), chunks=(b"",), max_body_bytes=10):
    """Send a request through a guard; returns status, headers and body."""
    incoming = [
        {"type": "http.request", "body": chunk, "more_body": i + 1 < len(chunks)}
        for i, chunk in enumerate(chunks)
    ]
    outgoing = []

    async def receive():
        return incoming.pop(0)

    async def send(message):
        outgoing.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": list(headers)}
    await ProxyGuard(proxy, max_body_bytes)(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in outgoing)
    return outgoing[0]["status"], dict(outgoing[0]["headers"]), body


async def test_serves_own_headers_are_hidden_from_serve():
    proxy = Proxy()
    status, _, body = await through_guard(
        proxy,
        headers=[
            (b"X-Request-Timeout-Seconds", b"0"),
            (b"x-request-disconnect-disabled", b"?1"),
            (b"serve_multiplexed_model_id", b"one"),
            (b"serve-multiplexed-model-id", b"\xff"),
            (b"X_Session_ID", b"\xff"),
            (b"accept", b"*/*"),
        ],
    )
    assert (status, body) == (200, b"proxied")
    assert proxy.headers == [(b"accept", b"*/*")]


@pytest.mark.parametrize("named", [b"\xff", b"", b"a b", b"a" * 129, b"../x", "é".encode()])
async def test_a_request_id_that_serve_cannot_take_never_reaches_it(named):
    proxy = Proxy()
    status, headers, body = await through_guard(
        proxy, headers=[(b"x-request-id", b"good"), (b"x-request-id", named)]
    )
    assert status == 400
    assert json.loads(body)["error"]["param"] == "x-request-id"
    assert headers[b"x-request-id"] not in {named, b"good"}
    assert not proxy.messages


async def test_websockets_are_closed():
    proxy, outgoing = Proxy(), []

    async def send(message):
        outgoing.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/v1/models", "headers": [(b"x-request-id", b"\xff")]}
    await ProxyGuard(proxy, 10)(scope, receive, send)
    assert outgoing == [{"type": "websocket.close"}]
    assert not proxy.messages


async def test_a_body_that_says_it_is_too_long_never_reaches_serve():
    proxy = Proxy()
    status, headers, body = await through_guard(proxy, headers=[(b"content-length", b"11")])
    assert status == 413
    assert json.loads(body)["error"]["code"] == "too_large"
    assert headers[b"x-request-id"]
    assert not proxy.messages


async def test_a_body_that_grows_too_long_never_reaches_serve():
    proxy = Proxy()
    chunks = [b"12345"] * 4
    status, headers, body = await through_guard(
        proxy, headers=[(b"x-request-id", b"abc")], chunks=chunks
    )
    assert status == 413
    assert headers[b"x-request-id"] == b"abc"
    assert b"proxied" not in body
    assert not proxy.messages


async def test_a_body_that_does_not_arrive_takes_no_place():
    proxy = Proxy()
    outgoing = []

    async def never():
        await asyncio.sleep(60)

    async def send(message):
        outgoing.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    await ProxyGuard(proxy, 10, max_body_s=0.05)(scope, never, send)
    assert outgoing[0]["status"] == 400
    assert not proxy.messages


async def test_a_client_that_leaves_while_it_sends_takes_no_place():
    proxy = Proxy()

    async def left():
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    guard = ProxyGuard(proxy, 10)
    await guard(scope, left, lambda _: None)
    assert not proxy.messages
    assert guard._num_arriving_bytes == 0


@pytest.mark.parametrize("chunks", [(b"0123456789",), (b"01234", b"56789"), (b"",)])
async def test_a_body_within_the_limit_passes(chunks):
    proxy = Proxy()
    status, _, body = await through_guard(proxy, chunks=chunks)
    assert (status, body) == (200, b"proxied")
    assert b"".join(message["body"] for message in proxy.messages) == b"".join(chunks)


def test_serve_is_given_the_limit_of_the_gateway():
    (middleware,) = proxy_middleware()
    guard = middleware.cls(Proxy(), *middleware.args, **middleware.kwargs)
    assert guard._max_body_bytes == Limits().max_body_bytes
