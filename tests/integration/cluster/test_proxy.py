"""What strangers send to Serve's own proxy, the first that reads it, costs them a refusal."""

import socket
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.rest.connection import MAX_HEAD_BYTES

pytestmark = pytest.mark.cluster
TIMEOUT_S = 60.0
PIECE = b"a" * 65_536


def exchange(cluster, *pieces):
    """Send bytes over a connection of their own; gives what comes back until it is closed."""
    parts = urlsplit(cluster.url)
    got = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=TIMEOUT_S) as raw:
        try:
            for piece in pieces:
                raw.sendall(piece)
            while more := raw.recv(65_536):
                got += more
        except (ConnectionResetError, BrokenPipeError):
            pass  # Closed while we were still sending.
    return got


@pytest.fixture(autouse=True)
def still_well(cluster):
    yield
    assert httpx.get(f"{cluster.url}/healthz", timeout=TIMEOUT_S).status_code == 200


@pytest.mark.parametrize("path", [b"/v1/models", b"/healthz", b"/-/routes"])
def test_a_request_id_that_is_no_text_is_the_clients_mistake(cluster, path):
    reply = exchange(
        cluster,
        b"GET %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: \xff\r\n\r\n" % path,
    )
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert b'"param":"x-request-id"' in reply


@pytest.mark.parametrize(
    "header", [b"x-session-id: \xff", b"serve_multiplexed_model_id: \xff", b"traceparent: \xff"]
)
def test_headers_that_serve_obeys_are_not_the_clients(cluster, header):
    reply = exchange(
        cluster, b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n%s\r\n\r\n" % header
    )
    assert reply.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("host", [b"[", b"a/b", b"\xff"])
def test_a_host_that_is_none_breaks_no_page(cluster, host):
    reply = exchange(cluster, b"GET / HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n" % host)
    assert reply.startswith(b"HTTP/1.1 200 ")


def test_a_head_without_an_end_is_cut(cluster):
    pieces = [PIECE] * (64 * MAX_HEAD_BYTES // len(PIECE))
    reply = exchange(cluster, b"GET / HTTP/1.1\r\nhost: x\r\nx-long: ", *pieces)
    # Where bytes were still on their way, the reply is lost with the connection.
    assert not reply or b"The head of the request has more than" in reply


def test_websockets_are_closed(cluster):
    reply = exchange(
        cluster,
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    assert reply[:13] in {b"HTTP/1.1 403 ", b"HTTP/1.1 400 "}
