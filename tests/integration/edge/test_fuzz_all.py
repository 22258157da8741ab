"""More than ten thousand inputs of every kind: JSON, bytes, pictures, protobuf, HTTP/2 frames.

The counts add up to what `make test-all` promises; `test_fuzz.py` is the quick part of it.
"""

import base64
import re
import socket
import struct
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from qzoom.pb import qzoom_pb2 as pb
from qzoom.pb import qzoom_pb2_grpc

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
PATH = "/v1/chat/completions"
TIMEOUT_S = 60
NUM_PICTURES = 3500
NUM_BODIES = 3000
NUM_MESSAGES = 2500
NUM_FRAMES = 300
NUM_CASES_AN_OPERATION = 250
ANSWERS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


def fuzzed(count):
    return settings(
        max_examples=count,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )


@pytest.fixture(scope="module")
def http(edge_server):
    with httpx.Client(base_url=edge_server.url, timeout=TIMEOUT_S, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def still_well(edge_server):
    """After all of it, the server answers a good question."""
    yield
    response = httpx.post(edge_server.url + PATH, json=body(FILES["PNG"]), timeout=TIMEOUT_S)
    assert response.status_code == 200
    assert edge_server.flow.live == 0


def encode(image, kind, **options):
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _files():
    pixels = np.random.default_rng(0).integers(0, 256, (19, 23, 3), dtype=np.uint8)
    rgb = Image.fromarray(pixels)
    return {
        "PNG": encode(rgb, "PNG"),
        "PNG16": encode(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG"),
        "PNGA": encode(rgb.convert("RGBA"), "PNG"),
        "JPEG": encode(rgb, "JPEG", exif=Image.Exif()),
        "CMYK": encode(rgb.convert("CMYK"), "JPEG"),
        "WEBP": encode(rgb, "WEBP"),
        "WEBPL": encode(rgb.convert("RGBA"), "WEBP", lossless=True),
        "GIF": encode(rgb.convert("P"), "GIF", save_all=True, append_images=[rgb.convert("P")]),
        "BMP": encode(rgb, "BMP"),
        "TIFF": encode(rgb, "TIFF", compression="tiff_lzw"),
    }


FILES = _files()


@st.composite
def broken_pictures(draw):
    """A picture with bytes changed, cut out, repeated, or taken from another picture."""
    data = bytearray(FILES[draw(st.sampled_from(sorted(FILES)))])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.sampled_from(["change", "cut", "insert", "number", "tail", "splice"]))
        match how:
            case "change":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del data[at : at + draw(st.integers(1, 64))]
            case "insert":
                data[at:at] = draw(st.binary(max_size=32))
            case "number":
                number = draw(st.sampled_from([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))
                order = draw(st.sampled_from([">I", "<I"]))
                data[at : at + 4] = struct.pack(order, number)
            case "tail":
                del data[at:]
            case "splice":
                other = FILES[draw(st.sampled_from(sorted(FILES)))]
                data[at:] = other[draw(st.integers(0, len(other) - 1)) :]
    return bytes(data)


def body(picture, **fields):
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "what is this?"},
    ]
    return {"model": "echo", "messages": [{"role": "user", "content": content}], **fields}


@fuzzed(NUM_PICTURES)
@given(picture=broken_pictures() | st.binary(max_size=200))
def test_any_picture_gets_an_answer_or_a_clear_refusal(http, picture):
    response = http.post(PATH, json=body(picture))
    if response.status_code == 200:
        return
    error = response.json()["error"]
    assert response.status_code in {400, 413, 415}, error
    assert error["param"].startswith("messages") or error["param"] == "messages"
    assert len(error["message"]) < 500
    assert not re.search(r"\b0x", error["message"]), "an address of memory"


TOKENS = st.sampled_from(
    b'{ } [ ] : , "model" "echo" "messages" "role" "user" "content" "qzoom" "text" null true NaN '
    b'1e999 -0 "\\ud800" \xff'.split(b" ")
)


@fuzzed(NUM_BODIES)
@given(raw=st.lists(TOKENS, max_size=40).map(b"".join) | st.binary(max_size=200))
def test_any_bytes_for_json_get_a_clear_refusal(http, raw):
    response = http.post(PATH, content=raw, headers={"content-type": "application/json"})
    assert 400 <= response.status_code < 500, response.text
    assert response.json()["error"]["message"]


def question(picture=FILES["PNG"]):
    parts = [pb.Part(image_url=pb.ImageUrl(data=picture)), pb.Part(text="what is this?")]
    messages = [pb.Message(role=pb.ROLE_USER, content=parts)]
    options = pb.Options(route=pb.ROUTE_ZOOM, tau_gate=0.5, max_roi_tokens=16, explain=True)
    return pb.AnswerRequest(
        model="echo", messages=messages, max_tokens=5, stop=["x"], seed=1, qzoom=options
    )


@st.composite
def broken_messages(draw):
    """A message with bytes changed, cut out or put in; or no message at all."""
    data = bytearray(question().SerializeToString())
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        if draw(st.booleans()):
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=3))
        else:
            del data[at : at + draw(st.integers(1, 20))]
    return bytes(data)


@pytest.fixture(scope="module")
def channel(edge_server):
    with grpc.insecure_channel(edge_server.grpc_address) as channel:
        yield channel


@fuzzed(NUM_MESSAGES)
@given(
    data=broken_messages() | st.binary(max_size=100),
    method=st.sampled_from(["Answer", "AnswerStream"]),
)
def test_any_message_gets_an_answer_or_a_clear_refusal(channel, data, method):
    code, details = outcome(channel, f"/qzoom.v1.QZoom/{method}", data)
    assert code in ANSWERS, details
    assert details or code is grpc.StatusCode.OK


def outcome(channel, name, data):
    try:
        if name.endswith("Stream"):
            list(channel.unary_stream(name)(data, timeout=TIMEOUT_S))
        else:
            channel.unary_unary(name)(data, timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


FRAME_KINDS = range(11)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@st.composite
def frames(draw):
    """HTTP/2 frames of any kind, flags and stream, whose lengths need not be true."""
    said = b""
    for _ in range(draw(st.integers(0, 5))):
        payload = draw(st.binary(max_size=40))
        length = draw(st.sampled_from([len(payload), 0, 5, 16_384, 0xFFFFFF]))
        kind, flags = draw(st.sampled_from(FRAME_KINDS)), draw(st.integers(0, 255))
        said += struct.pack(">I", length)[1:] + bytes([kind, flags])
        said += struct.pack(">I", draw(st.sampled_from([0, 1, 3, 0x7FFFFFFF]))) + payload
    return draw(st.sampled_from([PREFACE, b"", PREFACE[:10]])) + said


@fuzzed(NUM_FRAMES)
@given(data=frames())
def test_malformed_frames_end_their_own_connection_only(edge_server, data):
    host, port = edge_server.grpc_address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as raw:
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        try:
            while raw.recv(65_536):
                pass
        except ConnectionResetError:
            pass


def test_after_malformed_frames_questions_are_answered(channel):
    reply = qzoom_pb2_grpc.QZoomStub(channel).Answer(question(), timeout=TIMEOUT_S)
    assert reply.text


def test_the_document_of_the_api_says_what_the_server_does(edge_server, tmp_path):
    """Schemathesis: every operation, from its own schema, against its own promises."""
    report = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            *("run", f"{edge_server.url}/openapi.json"),
            *("--max-examples", str(NUM_CASES_AN_OPERATION)),
            *("--phases", "examples,coverage,fuzzing"),
            # A schema cannot say that a conversation needs a picture and ends with its user.
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            *("--generation-database", "none", "--request-timeout", str(TIMEOUT_S)),
            "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=1000,
    )
    assert report.returncode == 0, report.stdout[-5000:] + report.stderr[-2000:]
