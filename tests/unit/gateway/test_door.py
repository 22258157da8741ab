"""The proxy refuses by itself for as long as the gateway says, and tells how often."""

import json

from gateway.rest.door import CLOSED_MS, REFUSED, Door
from gateway.rest.errors import error_response
from gateway.rest.proxy import QUESTION_PATH, ProxyGuard
from qzoom.errors import Overloaded


class Gateway:
    """Has no room, and remembers what reached it."""

    def __init__(self):
        self.error = Overloaded("4 requests wait, at most 4", retry_after_s=3.0)
        self.error.closed_s = 0.1
        self.headers = []

    async def __call__(self, scope, receive, send):
        self.headers.append(dict(scope["headers"]))
        await error_response(self.error)(scope, receive, send)


class Client:
    def __init__(self, gateway):
        self.now = 0.0
        self.guard = ProxyGuard(gateway, 10, door=Door(lambda: self.now))

    async def post(self, path=QUESTION_PATH, **headers):
        outgoing = []

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            outgoing.append(message)

        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": path, "headers": raw}
        await self.guard(scope, receive, send)
        assert outgoing[0]["status"] == 429
        return dict(outgoing[0]["headers"]), json.loads(outgoing[1]["body"])["error"]


async def test_a_refusal_closes_the_door_for_a_moment():
    gateway = Gateway()
    client = Client(gateway)
    headers, error = await client.post()
    assert error["message"] == "4 requests wait, at most 4"
    assert CLOSED_MS.encode() not in headers, "a note to the proxy, not to clients"
    for _ in range(3):
        headers, error = await client.post()
        assert error["code"] == "overloaded"
        assert headers[b"retry-after"] == b"3"
        assert headers[b"x-request-id"]
    assert len(gateway.headers) == 1
    client.now = 0.11
    await client.post()
    assert len(gateway.headers) == 2
    assert gateway.headers[1][REFUSED.encode()] == b"3"
    client.now = 0.3
    await client.post()
    assert REFUSED.encode() not in gateway.headers[2]


async def test_the_door_is_closed_for_one_caller_and_for_questions_only():
    gateway = Gateway()
    client = Client(gateway)
    await client.post(authorization="Bearer a")
    await client.post(authorization="Bearer b")
    await client.post()
    await client.post(path="/v1/models")
    assert len(gateway.headers) == 4
    await client.post(authorization="Bearer a")
    assert len(gateway.headers) == 4


async def test_a_refusal_for_another_reason_closes_nothing():
    gateway = Gateway()
    gateway.error = Overloaded("your deadline cannot be met", retry_after_s=2.0)
    client = Client(gateway)
    await client.post()
    await client.post()
    assert len(gateway.headers) == 2


async def test_clients_cannot_write_notes_of_their_own():
    gateway = Gateway()
    await Client(gateway).post(x_qzoom_refused="1000", x_qzoom_closed_ms="1")
    assert gateway.headers == [{}]
