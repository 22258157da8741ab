"""Pictures behind URLs, over REST and gRPC: the same answers, the same refusals."""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from ipaddress import ip_address

import grpc
import httpx
import pytest
from PIL import Image

from gateway.fetch.fetcher import FetchLimits, ImageFetcher
from gateway.fetch.policy import FetchPolicy
from qzoom.pb import qzoom_pb2 as pb
from qzoom.pb import qzoom_pb2_grpc

TIMEOUT_S = 30
PUBLIC = "93.184.216.34"
NAMES = {"pictures.example": [PUBLIC], "inside.example": ["169.254.169.254"]}
AT = "messages[0].content[0].image_url"

BUFFER = BytesIO()
Image.new("RGB", (37, 21), (9, 99, 199)).save(BUFFER, "PNG")
FILES = {
    "/a.png": ("image/png", BUFFER.getvalue()),
    "/page.html": ("text/html", b"<html>"),
    "/lie.png": ("image/png", b"<html>"),
    "/cut.png": ("image/png", BUFFER.getvalue()[:50]),
}


class Pictures(BaseHTTPRequestHandler):
    """A host of pictures."""

    def do_GET(self) -> None:
        if self.path == "/inside":
            self.send_response(302)
            self.send_header("location", "http://inside.example/latest/meta-data/")
            self.end_headers()
            return
        if self.path not in FILES:
            self.send_error(404)
            return
        media_type, body = FILES[self.path]
        self.send_response(200)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


class ToLoopback(httpx.AsyncBaseTransport):
    """Stands for the internet, in which one host is at `PUBLIC`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._inner = httpx.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert request.url.host == PUBLIC
        request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def resolve(host: str):
    return [ip_address(address) for address in NAMES.get(host, [])]


@pytest.fixture(scope="module")
def server(serve_flow):
    """Both edges, before a gateway that may fetch from two hosts over http."""
    pictures = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    threading.Thread(target=pictures.serve_forever, daemon=True).start()

    def connect(_trust: ssl.SSLContext) -> httpx.AsyncBaseTransport:
        return ToLoopback(pictures.server_address[1])

    policy = FetchPolicy.parse("pictures.example, inside.example", allow_http=True)
    fetcher = ImageFetcher(policy, FetchLimits(), resolve=resolve, make_transport=connect)
    with serve_flow(fetcher=fetcher) as edge:
        yield edge
    pictures.shutdown()
    pictures.server_close()


@pytest.fixture
def ask(server):
    """Ask about a URL over REST, `Answer` and `AnswerStream`: what each says, or (code, text)."""

    def over_rest(url: str):
        content = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": "what"},
        ]
        body = {"model": "echo", "messages": [{"role": "user", "content": content}]}
        reply = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=TIMEOUT_S)
        if reply.status_code == 200:
            return reply.json()["choices"][0]["message"]["content"]
        error = reply.json()["error"]
        return error["code"], error["param"], error["message"]

    def over_grpc(url: str):
        parts = [pb.Part(image_url=pb.ImageUrl(url=url)), pb.Part(text="what")]
        message = pb.Message(role=pb.ROLE_USER, content=parts)
        request = pb.AnswerRequest(model="echo", messages=[message])
        with grpc.insecure_channel(server.grpc_address) as channel:
            stub = qzoom_pb2_grpc.QZoomStub(channel)
            try:
                answer = stub.Answer(request, timeout=TIMEOUT_S).text
                events = list(stub.AnswerStream(request, timeout=TIMEOUT_S))
            except grpc.RpcError as error:
                metadata = dict(error.trailing_metadata())
                return metadata["qzoom-code"], metadata.get("qzoom-param"), error.details()
        assert "".join(event.delta.text for event in events) == answer
        return answer

    def both(url: str):
        rest, rpc = over_rest(url), over_grpc(url)
        assert rest == rpc
        return rest

    return both


def test_a_remote_picture_is_answered(ask):
    assert ask("http://pictures.example/a.png") == "what [37x21]"


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("http://inside.example/", "invalid_request", "names a host without a public address"),
        ("http://pictures.example/inside", "invalid_request", "a host without a public address"),
        ("http://other.example/", "forbidden", "other.example, which is not on the operator's"),
        ("http://127.0.0.1/", "forbidden", "not on the operator's list"),
        ("http://2130706433/", "invalid_request", "malformed address"),
        ("http://me:pw@pictures.example/", "invalid_request", "user name or password"),
        ("http://pictures.example/none", "invalid_request", "server answers 404"),
        ("http://pictures.example/page.html", "unsupported_media", "content-type 'text/html'"),
        ("http://pictures.example/lie.png", "unsupported_media", "is no picture in one of"),
        ("http://pictures.example/cut.png", "unsupported_media", "broken or truncated"),
        ("http://pictures.example/" + "x" * 5000, "invalid_request", "characters, at most 4096"),
    ],
)
def test_refusals_are_alike_and_name_the_field(ask, url, code, message):
    said_code, param, said = ask(url)
    assert said_code == code
    assert message in said
    assert param in (AT, f"{AT}.url")
    assert "169.254" not in said
