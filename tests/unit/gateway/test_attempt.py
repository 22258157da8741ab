"""A gateway that dies costs its request a second try, and a stream that broke off says so."""

import json

import pytest

from gateway.rest.proxy import TRIES, ProxyGuard

BODY = b"question"
JSON = [(b"content-type", b"application/json")]
TEXT = [(b"content-type", b"text/plain; charset=utf-8")]
EVENTS = [(b"content-type", b"text/event-stream")]


def start(status, headers):
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def part(body, *, more=False):
    return {"type": "http.response.body", "body": body, "more_body": more}


class Serve:
    """Answers each try with the next of some scripts, after it has read the body."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.bodies = []

    async def __call__(self, scope, receive, send):
        assert scope["type"] == "http"
        self.bodies.append((await receive())["body"])
        for message in self.scripts.pop(0):
            await send(message)


async def answer_of(serve, path="/v1/chat/completions", *, leaves=False):
    sent = []
    incoming = [{"type": "http.request", "body": BODY, "more_body": False}]

    async def receive():
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    if leaves:

        class Reader(Serve):
            async def __call__(self, scope, receive, send):
                await super().__call__(scope, receive, send)
                await receive()

        serve = Reader(*serve.scripts)
    await ProxyGuard(serve, 100)({"type": "http", "path": path, "headers": []}, receive, send)
    status = sent[0]["status"] if sent else None
    return status, b"".join(message.get("body", b"") for message in sent), serve


DIED = (start(500, TEXT), part(b"The actor 0xdead died: Traceback"))
ABSENT = (start(503, TEXT), part(b"deployment gateway is unavailable"))
UNKNOWN = (start(404, TEXT), part(b"Path '/v1' not found. Ping /-/routes"))
ANSWER = (start(200, JSON), part(b"{}"))


async def test_a_gateway_that_says_nothing_has_died():
    status, body, serve = await answer_of(Serve((), (start(200, JSON), part(b"{}"))))
    assert (status, body) == (200, b"{}")
    assert serve.bodies == [BODY] * 2


@pytest.mark.parametrize("failure", [DIED, ABSENT])
async def test_a_request_is_given_to_another_gateway(failure):
    status, body, serve = await answer_of(Serve(failure, ANSWER))
    assert (status, body) == (200, b"{}")
    assert serve.bodies == [BODY, BODY]


@pytest.mark.parametrize(
    ("failure", "code"), [(DIED, "state_lost"), (ABSENT, "unavailable"), (UNKNOWN, "unavailable")]
)
async def test_what_serve_says_never_reaches_a_client(failure, code):
    status, body, serve = await answer_of(Serve(*[failure] * TRIES))
    assert status == 503
    assert json.loads(body)["error"]["code"] == code
    assert b"Traceback" not in body
    assert len(serve.bodies) == TRIES


async def test_a_client_that_left_is_not_tried_again():
    status, _, serve = await answer_of(Serve(DIED), leaves=True)
    assert status is None
    assert len(serve.bodies) == 1


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_errors_of_the_gateway_pass_as_they_are(status):
    own = (start(status, JSON), part(b'{"error": {}}'))
    assert (await answer_of(Serve(own)))[:2] == (status, b'{"error": {}}')


async def test_a_stream_that_breaks_off_ends_with_an_error():
    broken = (start(200, EVENTS), part(b"data: {}\n\n", more=True))
    status, body, serve = await answer_of(Serve(broken))
    assert status == 200
    events = body.decode().strip().split("\n\n")
    assert events[0] == "data: {}"
    assert json.loads(events[1].removeprefix("data: "))["error"]["code"] == "state_lost"
    assert len(serve.bodies) == 1, "what was sent cannot be taken back"


async def test_a_whole_stream_is_left_alone():
    whole = (start(200, EVENTS), part(b"data: [DONE]\n\n", more=True), part(b""))
    assert (await answer_of(Serve(whole)))[1] == b"data: [DONE]\n\n"


async def test_serves_own_paths_are_left_alone():
    status, body, _ = await answer_of(Serve(ABSENT), "/-/healthz")
    assert (status, body) == (503, b"deployment gateway is unavailable")
