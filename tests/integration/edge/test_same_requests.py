"""One table of requests, good and bad, through REST and gRPC: same outcome, same words."""

import base64
from io import BytesIO

import grpc
import httpx
import pytest
from PIL import Image

from qzoom import errors
from qzoom.pb import qzoom_pb2 as pb
from qzoom.pb import qzoom_pb2_grpc

TIMEOUT_S = 30


def encode(size, image_format="PNG", mode="RGB", **options) -> bytes:
    buffer = BytesIO()
    Image.new(mode, size).save(buffer, image_format, **options)
    return buffer.getvalue()


PICTURE = encode((64, 48))


def image(data: bytes = PICTURE, **fields) -> dict:
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    return {"type": "image_url", "image_url": {"url": url} | fields}


def text(words: str = "what is this?") -> dict:
    return {"type": "text", "text": words}


def user(*content: dict) -> dict:
    return {"role": "user", "content": list(content)}


def body(*content: dict, **fields) -> dict:
    return {"model": "echo", "messages": [user(*(content or (image(), text())))]} | fields


def turns(*roles: str) -> dict:
    messages = [
        user(image(), text()) if role == "user" else {"role": role, "content": [text()]}
        for role in roles
    ]
    return {"model": "echo", "messages": messages}


GOOD = {
    "plain": (body(), "what is this? [64x48]"),
    "all fields": (
        body(
            max_tokens=50,
            temperature=0.5,
            top_p=0.9,
            seed=-7,
            stop=["\n", "END"],
            qzoom={
                "route": "zoom",
                "tau_gate": 0.2,
                "tau_roi": 0.3,
                "max_visual_tokens": 64,
                "max_roi_tokens": 64,
                "deadline_ms": 20_000,
                "explain": True,
            },
        ),
        "what is this? [64x48]",
    ),
    "bounds": (
        body(temperature=2, top_p=1, seed=2**63 - 1, qzoom={"tau_gate": 0, "deadline_ms": 600_000}),
        "what is this? [64x48]",
    ),
    "text before the picture": (body(text("hi"), image()), "hi [64x48]"),
    "16 pictures": (
        body(*[image()] * 16, text()),
        "what is this? [" + ", ".join(["64x48"] * 16) + "]",
    ),
    "system and history": (
        turns("system", "user", "assistant", "user"),
        "what is this? [64x48, 64x48]",
    ),
    "one pixel": (body(image(encode((1, 1))), text()), "what is this? [1x1]"),
    "jpeg": (body(image(encode((30, 20), "JPEG")), text()), "what is this? [30x20]"),
    "16 bit": (body(image(encode((9, 8), mode="I;16")), text()), "what is this? [9x8]"),
    "cmyk": (body(image(encode((9, 8), "JPEG", "CMYK")), text()), "what is this? [9x8]"),
    "rgba webp": (body(image(encode((9, 8), "WEBP", "RGBA")), text()), "what is this? [9x8]"),
    "other script": (body(image(), text("¿qué es 这个?")), "¿qué es 这个? [64x48]"),
    "one token": (body(max_tokens=1), "what"),
}
AT = "messages[0].content[0].image_url"
BAD = {
    "no model": (body(model=""), 400, "model is required", "model"),
    "other model": (
        body(model="gpt"),
        404,
        "model 'gpt' is not served here, available: echo",
        "model",
    ),
    "no messages": (body(messages=[]), 400, "messages has 0 items, at least 1", "messages"),
    "no parts": (
        {"model": "echo", "messages": [user()]},
        400,
        "messages[0].content has 0 items, at least 1",
        "messages[0].content",
    ),
    "no pictures": (
        body(text()),
        400,
        "the messages have 0 pictures, at least 1 is needed",
        "messages",
    ),
    "20 pictures": (
        body(*[image()] * 20, text()),
        413,
        "the messages have 20 pictures, at most 16",
        "messages",
    ),
    "no text": (body(image()), 400, "the last message asks nothing: it has no text", "messages"),
    "blank text": (
        body(image(), text(" \n")),
        400,
        "the last message asks nothing: it has no text",
        "messages",
    ),
    "long prompt": (
        body(image(), text("x" * 100_000)),
        413,
        "the text of all messages has 100000 characters, at most 32768",
        "messages",
    ),
    "many turns": (
        turns(*["user", "assistant"] * 40, "user"),
        413,
        "messages has 81 items, at most 64",
        "messages",
    ),
    "answer last": (
        turns("user", "assistant"),
        400,
        "messages[1].role is assistant, the last message must be the user's",
        "messages[1].role",
    ),
    "late system": (
        turns("user", "system", "user"),
        400,
        "messages[1].role is system, which is allowed in the first message only",
        "messages[1].role",
    ),
    "picture in system": (
        {
            "model": "echo",
            "messages": [{"role": "system", "content": [image()]}, user(image(), text())],
        },
        400,
        "messages[0].content[0] is a picture in a system message, pictures belong in user messages",
        "messages[0].content[0]",
    ),
    "remote": (
        body({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, text()),
        400,
        f"{AT}.url: remote images are not enabled",
        f"{AT}.url",
    ),
    "file url": (
        body({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, text()),
        400,
        f"{AT}.url: must be a data: URL with base64 content, or an https: URL",
        f"{AT}.url",
    ),
    "not base64": (
        body({"type": "image_url", "image_url": {"url": "data:image/png;base64,%%%"}}, text()),
        400,
        f"{AT}.url: the content of the data: URL is not valid base64",
        f"{AT}.url",
    ),
    "other media": (
        body({"type": "image_url", "image_url": {"url": "data:text/html;base64,AAAA"}}, text()),
        415,
        f"{AT}.url: the data: URL has media type text/html, an image is needed",
        f"{AT}.url",
    ),
    "empty picture": (body(image(b""), text()), 400, f"{AT} is empty: the picture has 0 bytes", AT),
    "no picture": (
        body(image(b"hello"), text()),
        415,
        f"{AT} is no picture in one of JPEG, PNG, WEBP, GIF, BMP, TIFF",
        AT,
    ),
    "truncated": (
        body(image(encode((400, 300), "JPEG")[:-400]), text()),
        415,
        f"{AT} is broken or truncated: its pixels cannot be decoded",
        AT,
    ),
    "broken header": (
        body(image(PICTURE[:20]), text()),
        415,
        f"{AT} is broken: its header cannot be read",
        AT,
    ),
    "thin": (
        body(image(encode((1, 400))), text()),
        400,
        f"{AT} is 1x400 px, the longer side may be at most 200 times the shorter one",
        AT,
    ),
    "huge": (
        body(image(encode((20_000, 20_000), "PNG", "1")), text()),
        413,
        f"{AT} is 20000x20000 px, 400000000 pixels, at most 64000000",
        AT,
    ),
    "hot": (body(temperature=2.5), 400, "temperature is 2.5, at most 2", "temperature"),
    "cold": (body(temperature=-1.0), 400, "temperature is -1, at least 0", "temperature"),
    "top_p 0": (body(top_p=0.0), 400, "top_p is 0, must be above 0", "top_p"),
    "top_p 2": (body(top_p=2.0), 400, "top_p is 2, at most 1", "top_p"),
    "no tokens": (body(max_tokens=0), 400, "max_tokens is 0, at least 1", "max_tokens"),
    "many tokens": (
        body(max_tokens=10**6),
        400,
        "max_tokens is 1000000, at most 4096",
        "max_tokens",
    ),
    "5 stops": (body(stop=list("abcde")), 400, "stop has 5 items, at most 4", "stop"),
    "empty stop": (body(stop=[""]), 400, "stop[0] is empty, at least 1 character", "stop[0]"),
    "tau_gate": (
        body(qzoom={"tau_gate": 1e9}),
        400,
        "qzoom.tau_gate is 1000000000, at most 1",
        "qzoom.tau_gate",
    ),
    "tau_roi": (
        body(qzoom={"tau_roi": 1.0}),
        400,
        "qzoom.tau_roi is 1, must be below 1",
        "qzoom.tau_roi",
    ),
    "small budget": (
        body(qzoom={"max_visual_tokens": 0}),
        400,
        "qzoom.max_visual_tokens is 0, at least 4",
        "qzoom.max_visual_tokens",
    ),
    "large budget": (
        body(qzoom={"max_roi_tokens": 10**9}),
        400,
        "qzoom.max_roi_tokens is 1000000000, at most 16384",
        "qzoom.max_roi_tokens",
    ),
    "no time": (
        body(qzoom={"deadline_ms": 0}),
        400,
        "qzoom.deadline_ms is 0, at least 1",
        "qzoom.deadline_ms",
    ),
    "much time": (
        body(qzoom={"deadline_ms": 10**9}),
        400,
        "qzoom.deadline_ms is 1000000000, at most 600000",
        "qzoom.deadline_ms",
    ),
    "overload": (body(image(), text("refuse")), 429, "the queue has 8 requests, at most 8", None),
}


def to_proto(fields: dict) -> pb.AnswerRequest:
    """Say the same in protobuf; pictures as bytes where the URL holds base64."""
    request = pb.AnswerRequest(model=fields["model"])
    for message in fields["messages"]:
        sent = request.messages.add(role=pb.Role.Value(f"ROLE_{message['role'].upper()}"))
        for part in message["content"]:
            if part["type"] == "text":
                sent.content.add(text=part["text"])
                continue
            url = part["image_url"]["url"]
            payload = url.removeprefix("data:image/png;base64,")
            source = (
                {"url": url} if payload in (url, "%%%") else {"data": base64.b64decode(payload)}
            )
            sent.content.add(image_url=pb.ImageUrl(**source))
    for name in ("max_tokens", "temperature", "top_p", "seed"):
        if name in fields:
            setattr(request, name, fields[name])
    request.stop.extend(fields.get("stop", []))
    options = dict(fields.get("qzoom", {}))
    if "route" in options:
        options["route"] = pb.Route.Value(f"ROUTE_{options['route'].upper()}")
    request.qzoom.CopyFrom(pb.Options(**options))
    return request


@pytest.fixture(scope="module")
def http(edge_server):
    with httpx.Client(base_url=edge_server.url, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture(scope="module")
def stub(edge_server):
    with grpc.insecure_channel(edge_server.grpc_address) as channel:
        yield qzoom_pb2_grpc.QZoomStub(channel)


@pytest.mark.parametrize("name", GOOD)
def test_good_requests_get_the_same_answer(http, stub, name):
    fields, expected = GOOD[name]
    rest = http.post("/v1/chat/completions", json=fields)
    assert rest.status_code == 200, rest.text
    answer = stub.Answer(to_proto(fields), timeout=TIMEOUT_S)
    events = list(stub.AnswerStream(to_proto(fields), timeout=TIMEOUT_S))

    assert rest.json()["choices"][0]["message"]["content"] == expected
    assert answer.text == expected
    assert "".join(event.delta.text for event in events) == expected
    extra = rest.json()["qzoom"]
    assert extra["route"] == pb.Route.Name(answer.started.route).removeprefix("ROUTE_").lower()
    assert extra["p_refine"] == (
        answer.started.p_refine if answer.started.HasField("p_refine") else None
    )
    assert extra["visual_tokens"]["coarse"] == answer.started.visual_tokens.coarse
    assert len(extra["boxes"]) == len(answer.started.boxes)
    assert ("heatmap" in extra) == answer.started.HasField("heatmap")
    assert rest.json()["usage"]["prompt_tokens"] == answer.finished.prompt_tokens
    assert events[0].started.route == answer.started.route
    assert events[-1].finished.completion_tokens == answer.finished.completion_tokens


def test_both_edges_hand_over_the_same_request(http, stub, edge_server):
    for fields, _ in GOOD.values():
        http.post("/v1/chat/completions", json=fields)
        stub.Answer(to_proto(fields), timeout=TIMEOUT_S)
        rest, rpc = edge_server.flow.requests[-2:]
        names = ("model", "conversation", "images", "image_params", "sampling", "options", "stream")
        for name in names:
            assert getattr(rest, name) == getattr(rpc, name), name


GRPC_CODES = {
    kind.code: kind.grpc_code
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.QZoomError)
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_get_the_same_error(http, stub, name):
    fields, status, message, param = BAD[name]
    rest_fields = {k: v for k, v in fields.items() if v != ""}  # proto has no unset string
    rest = http.post("/v1/chat/completions", json=rest_fields)
    assert (rest.status_code, rest.json()["error"]["message"]) == (status, message)
    assert rest.json()["error"]["param"] == param
    code = rest.json()["error"]["code"]

    with pytest.raises(grpc.RpcError) as unary:
        stub.Answer(to_proto(fields), timeout=TIMEOUT_S)
    events = []
    with pytest.raises(grpc.RpcError) as stream:
        events.extend(stub.AnswerStream(to_proto(fields), timeout=TIMEOUT_S))
    for call in (unary.value, stream.value):
        assert (call.code().name, call.details()) == (GRPC_CODES[code], message)
        metadata = dict(call.trailing_metadata())
        assert (metadata["qzoom-code"], metadata.get("qzoom-param")) == (code, param)
        assert metadata["request_id"]


@pytest.mark.parametrize("name", BAD)
def test_a_failed_stream_ends_with_the_error_as_event(stub, name):
    fields, _, message, param = BAD[name]
    call = stub.AnswerStream(to_proto(fields), timeout=TIMEOUT_S)
    event = next(call)
    with pytest.raises(grpc.RpcError):
        next(call)
    assert (event.error.message, event.error.param) == (message, param or "")
    assert event.error.request_id == dict(call.trailing_metadata())["request_id"]
