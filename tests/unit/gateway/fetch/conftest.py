"""A small internet on loopback: names, addresses, and servers that say what a test wants."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address

import httpx
import pytest
import trustme

from gateway.fetch.download import Budget, Downloader
from gateway.fetch.policy import FetchPolicy

PUBLIC = "93.184.216.34"
OTHER = "2606:2800:220:1::1946"
MIB = 1024 * 1024

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Net:
    """What the gateway sees of the internet, and what the internet saw of the gateway.

    Attributes:
        names: Addresses of each name.
        asked: Names that were resolved, in order.
        connected: Addresses and ports that were connected to, in order.
        requests: Heads of the requests that servers got.
        server_names: Names that clients gave in TLS.
    """

    names: dict[str, list[str]] = field(default_factory=dict)
    ports: dict[tuple[str, int], int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    connected: list[tuple[str, int]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)
    authority: trustme.CA = field(default_factory=cache(trustme.CA))
    servers: list[asyncio.Server] = field(default_factory=list)

    async def resolve(self, host: str):
        self.asked.append(host)
        return [ip_address(address) for address in self.names.get(host, [])]

    def transport(self, trust: ssl.SSLContext) -> httpx.AsyncBaseTransport:
        return Wire(self, trust)

    def downloader(self, policy: str = "public", *, allow_http: bool = False) -> Downloader:
        return Downloader(
            FetchPolicy.parse(policy, allow_http=allow_http),
            self.resolve,
            self.transport,
            self.trust(),
        )

    def trust(self) -> ssl.SSLContext:
        """Believe this internet's own authority, and no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.authority.configure_trust(context)
        return context

    async def get(self, url: str, policy: str = "public", *, allow_http: bool = False) -> bytes:
        downloader = self.downloader(policy, allow_http=allow_http)
        async with asyncio.timeout(20):
            return await downloader.get(url, "p", Budget(MIB, 2 * MIB))

    async def serve(
        self,
        script: Script | bytes,
        host: str = "pictures.example",
        address: str = PUBLIC,
        port: int = 443,
        certificate: str | None = None,
        authority: trustme.CA | None = None,
    ) -> None:
        """Let a name have a server; TLS unless the port is 80."""
        self.names.setdefault(host, [address])

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
                if isinstance(script, bytes):
                    writer.write(script)
                    await writer.drain()
                else:
                    await script(reader, writer)
            writer.close()

        context = None
        if port != 80:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            issued = (authority or self.authority).issue_cert(certificate or host)
            issued.configure_cert(context)
            context.sni_callback = lambda _, name, __: self.server_names.append(name)
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
        self.servers.append(server)
        self.ports[address, port] = server.sockets[0].getsockname()[1]


class Wire(httpx.AsyncBaseTransport):
    """Connects for real, to the loopback port that stands for an address."""

    def __init__(self, net: Net, trust: ssl.SSLContext) -> None:
        self._net = net
        self._inner = httpx.AsyncHTTPTransport(verify=trust, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        default = 443 if request.url.scheme == "https" else 80
        place = (request.url.host, request.url.port or default)
        self._net.connected.append(place)
        if place not in self._net.ports:
            raise httpx.ConnectError("nobody listens there")
        request.url = request.url.copy_with(host="127.0.0.1", port=self._net.ports[place])
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.fixture
async def net():
    internet = Net()
    yield internet
    for server in internet.servers:
        server.close()
    for server in internet.servers:
        await server.wait_closed()
