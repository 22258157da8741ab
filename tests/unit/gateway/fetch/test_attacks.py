"""Servers and names that mean ill: nothing inside is reached, nothing grows, nothing is told."""

import asyncio
import gzip

import pytest

from qzoom.errors import Forbidden, QZoomError, TooLarge, UnsupportedMedia

PUBLIC = "93.184.216.34"
URL = "https://pictures.example/a.png"
MIB = 1024 * 1024
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n"

INSIDE = [
    "127.0.0.1",
    "10.0.0.5",
    "169.254.169.254",
    "192.168.0.10",
    "100.100.100.200",
    "0.0.0.0",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "fd00:ec2::254",
    "fe80::1",
]


async def refusal(net, url=URL, policy="public", **options) -> QZoomError:
    with pytest.raises(QZoomError) as error:
        await net.get(url, policy, **options)
    assert error.value.http_status in (400, 403, 413, 415)
    assert error.value.param == "p.url"
    assert not any(address in error.value.message for address in (*INSIDE, "127.0.0.1:"))
    return error.value


@pytest.mark.parametrize("address", INSIDE)
async def test_names_of_internal_addresses_are_refused(net, address):
    for answers in ([address], [PUBLIC, address], [address, PUBLIC]):
        net.names["pictures.example"] = answers
        error = await refusal(net)
        assert error.message == "p.url names a host without a public address"
        assert net.connected == []


async def test_an_internal_name_and_no_name_look_alike(net):
    net.names["database.internal.example"] = ["10.0.0.5"]
    inside = await refusal(net, "https://database.internal.example/")
    nowhere = await refusal(net, "https://nothing.internal.example/")
    assert (inside.code, inside.message) == (nowhere.code, nowhere.message)


@pytest.mark.parametrize("address", INSIDE)
async def test_internal_addresses_are_refused(net, address):
    host = f"[{address}]" if ":" in address else address
    await refusal(net, f"https://{host}/latest/meta-data/")
    await refusal(net, f"http://{host}/latest/meta-data/", allow_http=True)
    assert net.connected == []
    assert net.asked == []


@pytest.mark.parametrize(
    ("listed", "host"),
    [
        ("pictures.example", "pictures.example"),
        ("*.pictures.example", "a.pictures.example"),
        ("169.254.169.254", "169.254.169.254"),
    ],
)
async def test_a_list_does_not_open_the_inside(net, listed, host):
    net.names[host] = ["169.254.169.254"]
    error = await refusal(net, f"https://{host}/", listed)
    assert "without a public address" in error.message
    assert net.connected == []


@pytest.mark.parametrize(
    "location",
    [
        *(f"https://{f'[{a}]' if ':' in a else a}/latest/meta-data/" for a in INSIDE),
        "https://inside.example/",
        "https://mixed.example/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://localhost/",
        "http://pictures.example/",
        "https://pictures.example:6379/",
        "https://user:pw@pictures.example/",
        "file:///etc/passwd",
        "gopher://pictures.example/",
        "data:image/png;base64,AAAA",
        "https://pictures.example\\@127.0.0.1/",
        "//[::1]/",
    ],
)
async def test_redirects_to_the_inside_are_refused(net, location):
    net.names["inside.example"] = ["127.0.0.1"]
    net.names["mixed.example"] = ["1.1.1.1", "10.0.0.1"]
    reply = f"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: {location}\r\n\r\n"
    await net.serve(reply.encode())
    await refusal(net)
    assert net.connected == [(PUBLIC, 443)]


async def test_redirects_without_an_end_or_a_place_are_refused(net):
    await net.serve(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: /again\r\n\r\n")
    assert "redirects more than 2 times" in (await refusal(net)).message
    assert len(net.connected) == 3
    await net.serve(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n")
    await refusal(net)


@pytest.mark.parametrize("status", ["100", "199", "201", "204", "206", "300", "304", "404", "500"])
async def test_other_statuses_are_refused(net, status):
    await net.serve(f"HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n".encode())
    await refusal(net)


@pytest.mark.parametrize(
    "media_type", ["text/html", "application/json", "image/svg+xml", "video/mp4", "", "image/*"]
)
async def test_other_types_are_refused(net, media_type):
    await net.serve(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n\r\nbody" % media_type.encode())
    error = await refusal(net)
    assert isinstance(error, UnsupportedMedia)
    assert "an image is needed" in error.message


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "GZIP"])
async def test_packed_bodies_are_refused_unopened(net, encoding):
    bomb = gzip.compress(bytes(8 * MIB), 1)
    head = HEAD + f"content-encoding: {encoding}\r\ncontent-length: {len(bomb)}\r\n\r\n".encode()
    await net.serve(head + bomb)
    assert isinstance(await refusal(net), UnsupportedMedia)


async def test_packed_transfers_are_refused(net):
    await net.serve(HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    await refusal(net)


async def test_a_body_that_says_it_is_too_long_is_not_read(net):
    sent = 0

    async def script(_reader, writer):
        nonlocal sent
        writer.write(HEAD + b"content-length: 1073741824\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            sent += 65536
            await writer.drain()

    await net.serve(script)
    error = await refusal(net)
    assert isinstance(error, TooLarge)
    assert error.message == f"p.url gives 1073741824 bytes, at most {MIB}"


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_without_an_end_is_read_up_to_the_limit(net, chunked):
    sent, ended = 0, asyncio.Event()

    async def script(_reader, writer):
        nonlocal sent
        writer.write(HEAD + (b"transfer-encoding: chunked\r\n\r\n" if chunked else b"\r\n"))
        try:
            while True:
                writer.write(b"10000\r\n" + bytes(65536) + b"\r\n" if chunked else bytes(65536))
                sent += 65536
                await writer.drain()
        finally:
            ended.set()

    await net.serve(script)
    error = await refusal(net)
    assert isinstance(error, TooLarge)
    assert "more than" in error.message
    async with asyncio.timeout(10):
        await ended.wait()
    assert sent < 32 * MIB, "sockets buffer some, nobody reads on"


@pytest.mark.parametrize(
    "reply",
    [
        HEAD + b"content-length: 100\r\n\r\nshort",
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        HEAD + b"content-length: -5\r\n\r\nhello",
        HEAD + b"content-length: 99999999999999999999999\r\n\r\nhello",
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhel",
        HEAD + b"x: " + b"y" * MIB + b"\r\n\r\nhello",
        HEAD + b"".join(b"x%d: y\r\n" % i for i in range(50_000)) + b"\r\nhello",
        HEAD + b"a b: c\r\n\r\nhello",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"<html>no head at all</html>",
        b"HTTP/0.9 200\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n",
        b"",
    ],
    ids=lambda reply: repr(reply[-24:]),
)
async def test_broken_replies_are_refused(net, reply):
    await net.serve(reply)
    await refusal(net)


async def test_more_than_was_promised_is_left_unread(net):
    await net.serve(HEAD + b"content-length: 5\r\n\r\nhello, and more: HTTP/1.1 200 OK\r\n\r\n")
    assert await net.get(URL) == b"hello"


async def test_a_head_of_the_clients_making_is_impossible(net):
    await net.serve(HEAD + b"content-length: 5\r\n\r\nhello")
    url = "https://pictures.example/%0d%0aX-Injected:%201?a=b%0d%0aHost:%20evil.example"
    assert await net.get(url) == b"hello"
    assert "\r\nX-Injected" not in net.requests[0]
    assert net.requests[0].lower().count("\r\nhost:") == 1


async def test_http_is_refused_before_anything_happens(net):
    error = await refusal(net, "http://pictures.example/")
    assert isinstance(error, Forbidden)
    assert net.asked == []
