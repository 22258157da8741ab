"""The REST edge under strange, hostile and impatient clients, on a real socket."""

import asyncio
import json
import socket
import time

import httpx
import pytest

TIMEOUT_S = 30
POLL_S = 0.02
PATH = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
MIB = 1 << 20


@pytest.fixture(scope="module")
def http(edge_server):
    with httpx.Client(base_url=edge_server.url, timeout=TIMEOUT_S) as client:
        yield client


def error_of(response: httpx.Response) -> dict:
    """Check the shape that every error has."""
    assert response.headers["x-request-id"]
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert 400 <= response.status_code < 500, response.text
    assert error["type"] in {"invalid_request_error", "rate_limit_error"}
    assert "Traceback" not in response.text
    return error


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the body is not JSON, from character 0 on"),
        (b"{", "the body is not JSON, from character 1 on"),
        (b"[]", "the body must be a JSON object"),
        (b"null", "the body must be a JSON object"),
        (b'{"model": NaN}', "the body has the number NaN, which is not JSON"),
        (b'{"model": -Infinity}', "the body has the number -Infinity, which is not JSON"),
        (b'{"model": 1, "model": 2}', "the body has the name 'model' twice in one object"),
        (b'{"model": "\xff"}', "the body is not UTF-8, from byte 11 on"),
        (b'\xef\xbb\xbf{"model": "echo"}', "the body is not JSON, from character 0 on"),
        (b'{"a":' * 5000, "the body is nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "the body is nested too deeply"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "the body has a number with too many digits"),
        (b"[" + b"{}," * 150_000 + b"{}]", "the body has too many JSON values, at most 200000"),
        (b'{"model": "\\ud800"}', None),
        (b'{"\\ud800": 1}', None),
        (b'{"seed": 1e999}', None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_bodies_that_are_no_json_objects(http, raw, message):
    response = http.post(PATH, content=raw, headers=JSON)
    assert response.status_code == 400
    error = error_of(response)
    assert message is None or error["message"] == message


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/x-www-form-urlencoded"},
        JSON | {"content-encoding": "gzip"},
    ],
    ids=str,
)
def test_other_content_is_refused(http, ask, headers):
    response = http.post(PATH, content=json.dumps(ask()).encode(), headers=headers)
    assert response.status_code == 415
    error_of(response)


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ({"foo": 1}, "foo is not a known field", "foo"),
        ({"Model": "echo"}, "Model is not a known field", "Model"),
        ({"qzoom": {"foo": 1}}, "qzoom.foo is not a known field", "qzoom.foo"),
        ({"qzoom": 5}, "qzoom is 5, must be an object", "qzoom"),
        (
            {"qzoom": {"route": "fast"}},
            "qzoom.route is 'fast', must be 'auto', 'direct' or 'zoom'",
            "qzoom.route",
        ),
        ({"n": 2}, "n is 2, only 1 is supported", "n"),
        ({"n": True}, "n is true, only 1 is supported", "n"),
        (
            {"presence_penalty": 0.5},
            "presence_penalty is 0.5, only 0 is supported",
            "presence_penalty",
        ),
        (
            {"logprobs": True},
            "logprobs is true, only false is supported",
            "logprobs",
        ),
        (
            {"response_format": {"type": "json_object"}},
            'response_format is an object, only {"type": "text"} is supported',
            "response_format",
        ),
        (
            {"tools": [{"type": "function"}]},
            "tools is a list, only [] is supported",
            "tools",
        ),
        ({"audio": {"voice": "x"}}, "audio is not supported", "audio"),
        ({"temperature": "1"}, "temperature is '1', must be a number", "temperature"),
        ({"temperature": True}, "temperature is true, must be a number", "temperature"),
        ({"max_tokens": 1.5}, "max_tokens is 1.5, must be a whole number", "max_tokens"),
        ({"seed": 10**40}, "seed is a number of 133 bits, at most 9223372036854775807", "seed"),
        ({"stop": 5}, "stop: must be a text or a list of texts", "stop"),
        ({"stream": "yes"}, "stream is 'yes', must be true or false", "stream"),
        (
            {"stream_options": {"include_usage": True}},
            "stream_options is given, which needs stream: true",
            "stream_options",
        ),
        (
            {"max_tokens": 5, "max_completion_tokens": 5},
            "max_tokens and max_completion_tokens are both given, which mean the same: send one",
            "max_tokens",
        ),
        ({"messages": "hello"}, "messages is 'hello', must be a list", "messages"),
        ({"messages": ["hello"]}, "messages[0] is 'hello', must be an object", "messages[0]"),
        ({"model": None}, "model is null, must be a string", "model"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_fields_are_refused_by_name(http, ask, fields, message, param):
    response = http.post(PATH, json=ask(**fields))
    assert response.status_code == 400
    error = error_of(response)
    assert (error["message"], error["param"]) == (message, param)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            {"role": "tool", "content": "x"},
            "messages[0].role is 'tool': tools are not supported",
        ),
        (
            {"role": "assistant", "content": "x", "tool_calls": [{}]},
            "messages[0].tool_calls is a list, only [] is supported",
        ),
        (
            {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x"}}]},
            "messages[0].content[0].type: video is not supported, parts are text or image_url",
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
            "messages[0].content[0].type: audio is not supported, parts are text or image_url",
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "a", "image_url": {"url": "x"}}]},
            "messages[0].content[0].image_url.url: must be a data: URL with base64 content, "
            "or an https: URL",
        ),
        ({"role": "user", "content": 5}, "messages[0].content: must be a text or a list of parts"),
        ({"role": "user"}, "messages[0].content is required"),
        ({"role": "user", "content": "x", "foo": 1}, "messages[0].foo is not a known field"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_messages_are_refused_by_field(http, ask, message, said):
    response = http.post(PATH, json=ask(messages=[message]))
    assert response.status_code == 400
    assert error_of(response)["message"] == said


def test_neutral_and_ignored_fields_change_nothing(http, ask, edge_server):
    plain = http.post(PATH, json=ask()).json()
    extra = {
        "n": 1,
        "frequency_penalty": 0.0,
        "presence_penalty": 0,
        "logprobs": False,
        "logit_bias": {},
        "response_format": {"type": "text"},
        "tools": [],
        "tool_choice": "none",
        "user": "u",
        "metadata": {"a": "b"},
        "store": True,
        "service_tier": "auto",
        "temperature": None,
        "stop": None,
        "qzoom": None,
        "stream_options": None,
    }
    full = http.post(PATH, json=ask(**extra)).json()
    assert full["choices"] == plain["choices"]
    first, second = edge_server.flow.requests[-2:]
    assert (first.sampling, first.options) == (second.sampling, second.options)


@pytest.mark.parametrize(
    ("details", "method", "route"),
    [
        (["auto"], {}, "auto"),
        (["high"], {}, "zoom"),
        (["low"], {}, "direct"),
        (["low", "low"], {}, "direct"),
        (["low", "auto"], {}, "auto"),
        (["low", "high"], {}, "zoom"),
        (["high"], {"route": "direct"}, "direct"),
        (["low"], {"route": "auto"}, "auto"),
        (["low"], {"tau_gate": 0.5}, "direct"),
    ],
)
def test_detail_asks_for_a_route(http, ask, edge_server, details, method, route):
    body = ask(qzoom=method)
    picture, text = body["messages"][0]["content"]
    pictures = [
        {"type": "image_url", "image_url": picture["image_url"] | {"detail": detail}}
        for detail in details
    ]
    body["messages"][0]["content"] = [*pictures, text]
    assert http.post(PATH, json=body).status_code == 200
    assert edge_server.flow.requests[-1].options.route == route


def test_a_long_body_is_refused_early(http):
    def pieces():
        for _ in range(200):
            yield b"x" * MIB

    declared = http.post(PATH, content=b"x" * (200 * MIB), headers=JSON)
    assert declared.status_code == 413
    assert error_of(declared)["message"] == "the body has 209715200 bytes, at most 33554432"
    chunked = http.post(PATH, content=pieces(), headers=JSON)
    assert chunked.status_code == 413
    assert error_of(chunked)["message"] == "the body has more than 33554432 bytes"


def test_a_refusal_does_not_wait_for_the_body(edge_server):
    host, port = edge_server.url.removeprefix("http://").split(":")
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"content-length: {200 * MIB}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(head.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_just_below_the_limit_is_read(http, ask):
    body = json.dumps(ask()).encode()
    padded = body + b" " * (32 * MIB - len(body))
    assert http.post(PATH, content=padded, headers=JSON).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_the_flow(http, ask, edge_server, stream):
    with (
        httpx.Client(base_url=edge_server.url, timeout=0.5) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.post(PATH, json=ask("hang here", stream=stream))
    wait_until(lambda: edge_server.flow.live == 0)
    assert http.get("/healthz").status_code == 200


async def test_many_clients_that_leave_leave_nothing(ask, edge_server):
    async def leave(client: httpx.AsyncClient, i: int) -> None:
        question = "hang early" if i % 2 else "hang here"
        with pytest.raises(httpx.ReadTimeout):
            await client.post(PATH, json=ask(question, stream=i % 3 == 0))

    async with httpx.AsyncClient(base_url=edge_server.url, timeout=0.5) as client:
        await asyncio.gather(*(leave(client, i) for i in range(40)))
    wait_until(lambda: edge_server.flow.live == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_the_deadline_is_kept(http, ask, edge_server, stream):
    body = ask("hang early", stream=stream, qzoom={"deadline_ms": 100})
    start = time.monotonic()
    response = http.post(PATH, json=body)
    assert time.monotonic() - start < 5
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "deadline_exceeded"
    wait_until(lambda: edge_server.flow.live == 0)


def test_a_deadline_within_a_stream_is_told(http, ask):
    body = ask("hang here", stream=True, qzoom={"deadline_ms": 100})
    response = http.post(PATH, json=body)
    assert response.status_code == 200
    last = response.text.strip().split("\n\n")[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "deadline_exceeded"
    assert "[DONE]" not in response.text


def test_request_ids_come_back(http, ask):
    response = http.post(PATH, json=ask(), headers={"x-request-id": "abc-1"})
    assert response.headers["x-request-id"] == "abc-1"
    assert response.json()["id"] == "chatcmpl-abc-1"
    unfit = http.post(PATH, json=ask(), headers={"x-request-id": "a b"})
    assert error_of(unfit)["param"] == "x-request-id"


def test_trace_context_is_handed_on(http, ask, edge_server):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    http.post(PATH, json=ask(), headers={"traceparent": parent, "tracestate": "a=b"})
    assert edge_server.flow.requests[-1].trace == {"traceparent": parent, "tracestate": "a=b"}


def test_serves_own_headers_are_not_obeyed(http, ask):
    refused = http.post(PATH, json=ask(), headers={"x-request-disconnect-disabled": "?1"})
    assert error_of(refused)["param"] == "x-request-disconnect-disabled"
    ignored = http.post(PATH, json=ask(), headers={"x-request-timeout-seconds": "0.0001"})
    assert ignored.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/v1/completions", 404),
        ("GET", PATH, 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/models/other", 404),
        ("GET", "/v1/traces/other", 404),
        ("GET", "/v1/traces?limit=0", 400),
        ("GET", "/v1/traces?limit=-1", 400),
        ("GET", "/v1/traces?limit=99999999999999999999", 400),
        ("GET", "/%ff%00", 404),
        ("POST", f"{PATH}/", 404),
        ("GET", "/v1/models/", 404),
        ("OPTIONS", "/v1/models", 405),
        ("PUT", "/", 405),
    ],
)
def test_other_paths_get_errors_of_the_same_shape(http, method, path, status):
    response = http.request(method, path)
    assert response.status_code == status
    error_of(response)


@pytest.mark.parametrize("host", ["[", "a/b", "a?b", "a#b", "user@x:99999", "\u20ac".encode(), ""])
@pytest.mark.parametrize(
    ("path", "status"), [("/", 200), ("/dashboard", 200), ("/nothing", 404), ("/v1/models/", 404)]
)
def test_whatever_the_host_header_says_counts_for_nothing(http, host, path, status):
    response = http.get(path, headers={"host": host})
    assert response.status_code == status
    if status == 404:
        assert error_of(response)["message"] == f"GET {path!r}: the server has no such path"


@pytest.mark.parametrize("path", ["/", "/dashboard", "/healthz", "/metrics", "/v1/models"])
def test_head_is_get_without_the_body(http, path):
    head, get = http.head(path), http.get(path)
    assert head.status_code == 200
    assert head.content == b""
    for name in ("content-type", "content-length"):
        assert head.headers[name] == get.headers[name]


def test_probes_answer(http):
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ready"}
    listed = http.get("/v1/models").json()["data"]
    assert [model["qzoom"] for model in listed] == [{"tau_gate": 0.5}]
    assert http.get(f"/v1/models/{listed[0]['id']}").json() == listed[0]
    assert http.get("/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")
    assert http.get("/v1/traces?limit=1").json()["data"] == [{"trace_id": "0" * 31 + "1"}]
    assert http.get("/v1/traces/" + "0" * 31 + "1").status_code == 200


def test_the_openapi_document_describes_a_question(http):
    document = http.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert {"RequestBody", "Message", "Part", "MethodOptions"} <= set(schemas)
    body = document["paths"][PATH]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/RequestBody"}
    assert "$defs" not in json.dumps(document)


def wait_until(condition) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(POLL_S)
