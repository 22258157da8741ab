"""What an honest server gives arrives; connections go where was checked, and nowhere else."""

import asyncio
from ipaddress import ip_address

import httpx
import pytest
import trustme

from gateway.fetch.download import _request, system_transport
from gateway.fetch.resolver import SystemResolver
from gateway.fetch.target import parse_target
from qzoom.errors import Forbidden, InvalidRequest

PUBLIC = "93.184.216.34"
OTHER = "2606:2800:220:1::1946"
BODY = b"the bytes of a picture"


def answer(body=BODY, status="200 OK", media_type="image/png", **headers) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"content-length: {len(body)}",
        *([f"content-type: {media_type}"] if media_type else []),
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(location: str, status="302 Found") -> bytes:
    return answer(b"", status, location=location)


async def test_a_picture_arrives(net):
    await net.serve(answer())
    assert await net.get("https://pictures.example/a.png?size=1#top") == BODY
    assert net.connected == [(PUBLIC, 443)]
    assert net.server_names == ["pictures.example"]
    head = net.requests[0].split("\r\n")
    assert head[0] == "GET /a.png?size=1 HTTP/1.1"
    names = [line.partition(":")[0].lower() for line in head[1:] if line]
    assert sorted(names) == ["accept", "accept-encoding", "host", "user-agent"]
    assert "host: pictures.example" in net.requests[0].lower()


@pytest.mark.parametrize(
    "media_type",
    ["image/jpeg", "IMAGE/PNG", "image/webp; q=1", "image/tiff", "application/octet-stream"],
)
async def test_types_of_pictures_and_of_unknown_files_are_taken(net, media_type):
    await net.serve(answer(media_type=media_type))
    assert await net.get("https://pictures.example/") == BODY


async def test_other_ports_and_plain_http_are_taken_where_they_are_allowed(net):
    await net.serve(answer(), port=8443)
    await net.serve(answer(b"plain"), host="plain.example", address="1.1.1.1", port=80)
    assert await net.get("https://pictures.example:8443/", "pictures.example:8443") == BODY
    assert "host: pictures.example:8443" in net.requests[0].lower()
    assert await net.get("http://plain.example/", allow_http=True) == b"plain"


async def test_an_address_can_be_the_host(net):
    await net.serve(answer(), certificate=PUBLIC)
    assert await net.get(f"https://{PUBLIC}/a.png") == BODY
    assert net.asked == []


async def test_the_next_address_is_tried_where_nobody_answers(net):
    net.names["pictures.example"] = ["1.2.3.4", OTHER]
    await net.serve(answer(), address=OTHER)
    assert await net.get("https://pictures.example/") == BODY
    assert net.connected == [("1.2.3.4", 443), (OTHER, 443)]


async def test_no_more_than_three_addresses_are_tried(net):
    net.names["pictures.example"] = [f"1.2.3.{i}" for i in range(100)]
    with pytest.raises(InvalidRequest, match="cannot be connected to"):
        await net.get("https://pictures.example/")
    assert len(net.connected) == 3


@pytest.mark.parametrize("status", ["301 M", "302 F", "303 S", "307 T", "308 P"])
async def test_two_redirects_are_followed(net, status):
    await net.serve(redirect("https://second.example/x/y", status))
    await net.serve(redirect("../z.png"), host="second.example", address="1.1.1.1")
    with pytest.raises(InvalidRequest, match="redirects more than 2 times"):
        await net.get("https://pictures.example/")  # second.example redirects to itself.
    assert [request.split(" ")[1] for request in net.requests] == ["/", "/x/y", "/z.png"]
    await net.serve(answer(), host="third.example", address="8.8.8.8")
    await net.serve(redirect("//third.example/p.png"), host="fourth.example", address="8.8.4.4")
    assert await net.get("https://fourth.example/") == BODY


async def test_each_hop_is_resolved_once_and_connected_where_it_was_checked(net):
    """A name that answers differently the second time gains nothing."""
    answers = {"rebinding.example": [["1.1.1.1"], ["127.0.0.1"]]}

    async def resolve(host):
        net.asked.append(host)
        return [ip_address(address) for address in answers[host].pop(0)]

    net.resolve = resolve
    await net.serve(answer(), host="rebinding.example", address="1.1.1.1")
    assert await net.get("https://rebinding.example/") == BODY
    assert net.asked == ["rebinding.example"]
    assert net.connected == [("1.1.1.1", 443)]
    with pytest.raises(InvalidRequest, match="without a public address"):
        await net.get("https://rebinding.example/")
    assert net.connected == [("1.1.1.1", 443)]


async def test_nothing_is_remembered_from_one_picture_to_the_next(net):
    await net.serve(answer(set_cookie="id=1; Domain=example; Path=/", connection="keep-alive"))
    for _ in range(2):
        await net.get("https://pictures.example/")
    assert "cookie" not in "".join(net.requests).lower()
    assert len(net.server_names) == 2, "each picture has a connection of its own"


async def test_the_environment_gives_no_proxy_and_no_password(net, monkeypatch, tmp_path):
    used = asyncio.Event()

    async def proxy(_reader, writer):
        used.set()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    address = f"http://user:pw@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, address)
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine pictures.example login me password pw\nmachine {PUBLIC} login me\n")
    monkeypatch.setenv("NETRC", str(netrc))
    await net.serve(answer())
    assert await net.get("https://pictures.example/") == BODY
    assert "authorization" not in net.requests[0].lower()
    assert not used.is_set()
    # The real way out, not the one of the tests.
    async with system_transport(net.trust()) as transport:
        request = _request(parse_target("http://pictures.example/", "p"), ip_address("127.0.0.1"))
        request.url = request.url.copy_with(port=1)
        with pytest.raises(httpx.ConnectError):
            await transport.handle_async_request(request)
    assert not used.is_set()
    server.close()
    await server.wait_closed()


async def test_certificates_are_checked(net):
    url, message = "https://pictures.example/", "cannot be connected to, or not securely"
    await net.serve(answer(), certificate="other.example")
    with pytest.raises(InvalidRequest, match=message):
        await net.get(url)
    await net.serve(answer(), authority=trustme.CA())
    with pytest.raises(InvalidRequest, match=message):
        await net.get(url)
    net.ports[PUBLIC, 443] = net.ports[PUBLIC, 80] = 0
    await net.serve(answer(), port=80)
    net.ports[PUBLIC, 443] = net.ports[PUBLIC, 80]  # No TLS where TLS is meant.
    with pytest.raises(InvalidRequest, match=message):
        await net.get(url)
    assert not net.requests


async def test_the_real_transport_names_the_host_and_checks_its_certificate(net):
    """As in production, but for the address: only the tables keep loopback out."""
    await net.serve(answer())
    port = net.ports[PUBLIC, 443]
    trust = net.trust()
    for host, succeeds in (("pictures.example", True), ("other.example", False)):
        request = _request(parse_target(f"https://{host}:{port}/", "p"), ip_address("127.0.0.1"))
        async with system_transport(trust) as transport:
            if succeeds:
                response = await transport.handle_async_request(request)
                assert await response.aread() == BODY
                await response.aclose()
            else:
                with pytest.raises(httpx.ConnectError):
                    await transport.handle_async_request(request)
    assert net.server_names == ["pictures.example", "other.example"]
    assert f"host: pictures.example:{port}" in net.requests[0].lower()


async def test_the_real_resolver_finds_names_and_says_nothing_of_others():
    resolver = SystemResolver()
    assert all(address.is_loopback for address in await resolver("localhost"))
    assert await resolver("name.invalid") == []
    assert await resolver("a" * 70 + ".example") == []
    resolver.close()


async def test_search_domains_are_kept_out(monkeypatch):
    asked = []

    def getaddrinfo(host, *_args, **_options):
        asked.append(host)
        raise OSError("no such name")

    monkeypatch.setattr("gateway.fetch.resolver.socket.getaddrinfo", getaddrinfo)
    resolver = SystemResolver()
    assert await resolver("pictures.example") == []
    assert asked == ["pictures.example."]
    resolver.close()


async def test_a_list_holds_for_every_hop(net):
    await net.serve(redirect("https://elsewhere.example/"))
    await net.serve(answer(), host="elsewhere.example", address="1.1.1.1")
    assert await net.get("https://pictures.example/", "public") == BODY
    with pytest.raises(Forbidden, match="redirects to what may not be fetched"):
        await net.get("https://pictures.example/", "pictures.example")
    with pytest.raises(Forbidden, match=r"elsewhere\.example, which is not on the operator's list"):
        await net.get("https://elsewhere.example/", "pictures.example")
    assert net.connected.count(("1.1.1.1", 443)) == 1
