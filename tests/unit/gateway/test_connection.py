"""A real uvicorn with bounded connections: what strangers send that is no body, costs little."""

import asyncio
import contextlib

import pytest
import uvicorn
from uvicorn.config import HTTP_PROTOCOLS

from gateway.rest.connection import BoundedConnection, use_bounded_connections

PATIENCE_S = 60.0
HEAD = b"POST / HTTP/1.1\r\nhost: x\r\n"


class Impatient(BoundedConnection):
    max_head_bytes = 1000
    max_head_s = 0.2


class Patient(BoundedConnection):
    max_head_bytes = 1000
    max_head_s = PATIENCE_S


async def echo(scope, receive, send):
    """Answer with the length of the body and the names of the headers."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    names = b",".join(name for name, _ in scope["headers"])
    text = b"%d %s" % (size, names)
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"%d" % len(text))],
        }
    )
    await send({"type": "http.response.body", "body": text})


@contextlib.asynccontextmanager
async def connected(protocol):
    """Serve with a protocol, and connect."""
    config = uvicorn.Config(
        echo, host="127.0.0.1", port=0, http=protocol, lifespan="off", log_level="critical"
    )
    server = uvicorn.Server(config)
    with contextlib.suppress(asyncio.CancelledError):
        serving = asyncio.ensure_future(server._serve())
        while not server.started:
            assert not serving.done()
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        yield reader, writer
        writer.close()
        server.should_exit = server.force_exit = True
        await serving


async def answer(reader):
    """Read one response; gives status and body, or nothing where the connection ends."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        [length] = [
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        return int(head.split()[1]), await reader.readexactly(length)


async def send_until_cut(writer, piece):
    """Send the same again and again; gives how many bytes it took until the server hung up."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE_S):
            while not writer.is_closing():
                writer.write(piece)
                sent += len(piece)
                await writer.drain()
                await asyncio.sleep(0)
    return sent


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (HEAD + b"x-long: ", b"a" * 500),
        (HEAD, b"x-many: a\r\n" * 50),
        (b"GET /", b"a" * 500),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", b"x-trailer: a\r\n" * 50),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-trailer: ", b"a" * 500),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n1;", b"a" * 500),
    ],
    ids=["header", "headers", "path", "trailers", "trailer", "chunk"],
)
async def test_what_never_ends_is_cut(begin, piece):
    async with connected(Patient) as (_, writer):
        writer.write(begin)
        # What the sockets between hold comes on top of what the server took.
        assert await send_until_cut(writer, piece) < 64 * 1024 * 1024


async def test_a_head_that_is_too_long_is_told_so():
    async with connected(Patient) as (reader, writer):
        writer.write(HEAD + b"x-long: ")
        await asyncio.sleep(0.05)
        writer.write(b"a" * 1200)
        status, body = await answer(reader)
        assert status == 400
        assert body == b"The head of the request has more than 1000 bytes."


@pytest.mark.parametrize("begin", [b"", b"GET", HEAD])
async def test_a_head_that_does_not_come_is_not_waited_for(begin):
    async with connected(Impatient) as (reader, writer):
        writer.write(begin)
        reply = await answer(reader)
        if begin:
            assert reply == (400, b"The head of the request did not arrive within 0.2 s.")
        else:
            assert reply is None


async def test_the_second_request_of_a_connection_is_bounded_too():
    async with connected(Impatient) as (reader, writer):
        writer.write(HEAD + b"content-length: 2\r\n\r\nok")
        assert (await answer(reader))[0] == 200
        writer.write(b"GET / HT")
        assert (await answer(reader))[0] == 400


@pytest.mark.parametrize("size", [0, 1, 300_000])
async def test_bodies_are_no_heads(size):
    async with connected(Patient) as (reader, writer):
        for _ in range(3):
            writer.write(HEAD + b"content-length: %d\r\n\r\n" % size + b"a" * size)
            status, body = await answer(reader)
            assert (status, body.split()[0]) == (200, b"%d" % size)


async def test_a_slow_body_is_not_the_heads_fault_and_small_chunks_are_taken():
    async with connected(Impatient) as (reader, writer):
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(300):
            writer.write(b"a\r\n0123456789\r\n")
            await writer.drain()
            await asyncio.sleep(0.002)
        writer.write(b"0\r\nx-trailer: a\r\n\r\n")
        status, body = await answer(reader)
        assert status == 200
        assert body == b"3000 host,transfer-encoding"


async def test_requests_in_one_piece_are_answered_in_turn():
    async with connected(Patient) as (reader, writer):
        writer.write((HEAD + b"content-length: 1\r\n\r\na") * 5)
        assert [(await answer(reader))[0] for _ in range(5)] == [200] * 5


def test_servers_that_do_not_choose_use_them(monkeypatch):
    monkeypatch.setitem(HTTP_PROTOCOLS, "auto", HTTP_PROTOCOLS["auto"])
    use_bounded_connections()
    config = uvicorn.Config(echo)
    config.load()
    assert config.http_protocol_class is BoundedConnection
