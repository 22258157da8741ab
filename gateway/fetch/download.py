"""How is one file fetched? A connection to an address that was checked, a few hops, many limits.

No connection outlives its request, and nothing is remembered: no cookies, no credentials, no
proxies or certificates from the environment.
"""

import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import httpx

from gateway.fetch.addresses import Address, is_public
from gateway.fetch.policy import FetchPolicy
from gateway.fetch.resolver import Resolve
from gateway.fetch.target import Target, parse_target
from qzoom.errors import Forbidden, InvalidRequest, QZoomError, TooLarge, UnsupportedMedia
from qzoom.version import VERSION

MAX_REDIRECTS = 2
MAX_ADDRESSES_TRIED = 3
CONNECT_TIMEOUT_S = 3.0
MAX_SHOWN_CHARS = 60

MEDIA_TYPES = frozenset(
    {
        *(f"image/{name}" for name in ("jpeg", "jpg", "pjpeg", "png", "x-png", "webp", "gif")),
        *(f"image/{name}" for name in ("bmp", "x-bmp", "x-ms-bmp", "tiff", "tif")),
        # What object stores say of files whose type nobody told them; the file's header decides.
        "application/octet-stream",
        "binary/octet-stream",
    }
)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

MakeTransport = Callable[[ssl.SSLContext], httpx.AsyncBaseTransport]
"""Makes what connects to the address in a request's URL; closed after one request."""


def system_transport(trust: ssl.SSLContext) -> httpx.AsyncBaseTransport:
    """Connect for real."""
    return httpx.AsyncHTTPTransport(
        verify=trust, trust_env=False, limits=httpx.Limits(max_connections=1)
    )


class Budget:
    """Bytes that the remote pictures of one request may have, each and together."""

    def __init__(self, per_file: int, together: int) -> None:
        self.per_file = per_file
        self.together = together
        self._left = together

    def spend(self, num_bytes: int, param: str) -> None:
        """Count what has arrived.

        Raises:
            TooLarge: If it is more than there was left for all.
        """
        self._left -= num_bytes
        if self._left < 0:
            raise TooLarge(
                f"the remote pictures have more than {self.together} bytes together, which is "
                "what the request's own pictures leave",
                param=f"{param}.url",
            )


class Downloader:
    """Fetches files from hosts that the operator allows, at addresses of the public internet.

    Args:
        policy: What may be fetched.
        resolve: Turns names into addresses.
        make_transport: Connects.
        trust: Certificates that are believed; the public ones if not given.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        resolve: Resolve,
        make_transport: MakeTransport = system_transport,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = policy
        self._resolve = resolve
        self._make_transport = make_transport
        self._trust = trust or httpx.create_ssl_context(trust_env=False)

    async def get(self, url: str, param: str, budget: Budget) -> bytes:
        """Fetch one file; whoever calls limits the time.

        Args:
            url: As the client sent it.
            param: Field of the picture, for messages.
            budget: Bytes that it may have.

        Raises:
            InvalidRequest: If the URL is malformed, has no public address, or gives no file.
            Forbidden: If the operator does not allow it, or a place that it redirects to.
            TooLarge: If the file has too many bytes.
            UnsupportedMedia: If the server says that it is no picture.
        """
        target = parse_target(url, param)
        self._policy.check(target, param)
        for _ in range(MAX_REDIRECTS + 1):
            addresses = await self._public_addresses(target, param)
            async with self._response(target, addresses, param) as response:
                if response.status_code not in _REDIRECTS:
                    return await _read(response, param, budget)
                location = response.headers.get("location", "")
            target = target.joined(location, param)
            try:
                self._policy.check(target, param)
            except Forbidden:
                raise Forbidden(
                    f"{param}.url redirects to what may not be fetched", param=f"{param}.url"
                ) from None
        raise _failed(param, f"redirects more than {MAX_REDIRECTS} times")

    async def _public_addresses(self, target: Target, param: str) -> Sequence[Address]:
        """Resolve once; one address that is not public spoils them all.

        Names without an address get the same words, so that nobody can find out which names exist
        in the operator's network.
        """
        if target.address is not None:
            addresses = [target.address]
        else:
            addresses = list(dict.fromkeys(await self._resolve(target.host)))
        if not addresses or not all(map(is_public, addresses)):
            raise _failed(param, "names a host without a public address")
        return addresses[:MAX_ADDRESSES_TRIED]

    @asynccontextmanager
    async def _response(
        self, target: Target, addresses: Sequence[Address], param: str
    ) -> AsyncIterator[httpx.Response]:
        """Ask the first address that answers; the block reads what it says."""
        *others, last = addresses
        for address in (*others, last):
            async with self._make_transport(self._trust) as transport:
                try:
                    response = await transport.handle_async_request(_request(target, address))
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    if address != last:
                        continue
                    raise _failed(
                        param, "names a host that cannot be connected to, or not securely"
                    ) from None
                except httpx.TransportError:
                    raise _failed(param, "names a host that gives no proper answer") from None
                try:
                    yield response
                except httpx.TransportError:
                    raise _failed(param, "did not arrive as a whole") from None
                finally:
                    await response.aclose()
                return


def _request(target: Target, address: Address) -> httpx.Request:
    """Ask an address for what a name promises.

    The URL holds the address, so that nothing resolves the name again; `Host`, the name within TLS
    and the name in the certificate are the target's.
    """
    headers = {
        "host": target.authority,
        "user-agent": f"qzoom/{VERSION}",
        "accept": "image/*",
        "accept-encoding": "identity",
    }
    wait = CONNECT_TIMEOUT_S
    return httpx.Request(
        "GET",
        target.url.copy_with(host=str(address), port=target.port),
        headers=headers,
        extensions={
            "sni_hostname": target.host,
            "timeout": {"connect": wait, "pool": wait},
        },
    )


async def _read(response: httpx.Response, param: str, budget: Budget) -> bytes:
    """Read the body as it comes: bounded, and never unpacked."""
    max_bytes = budget.per_file
    _check_head(response, param, max_bytes)
    assert isinstance(response.stream, httpx.AsyncByteStream)
    body = bytearray()
    async for chunk in response.stream:
        if len(body) + len(chunk) > max_bytes:
            raise _too_large(param, "more than ", max_bytes, max_bytes)
        budget.spend(len(chunk), param)
        body += chunk
    return bytes(body)


def _check_head(response: httpx.Response, param: str, max_bytes: int) -> None:
    if response.status_code != httpx.codes.OK:
        raise _failed(param, f"cannot be fetched: its server answers {response.status_code}")
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedMedia(
            f"{param}.url gives content-encoding {encoding[:MAX_SHOWN_CHARS]!a}, must be identity",
            param=f"{param}.url",
        )
    said = response.headers.get("content-type", "")
    if said.partition(";")[0].strip().lower() not in MEDIA_TYPES:
        raise UnsupportedMedia(
            f"{param}.url gives content-type {said[:MAX_SHOWN_CHARS]!a}, an image is needed",
            param=f"{param}.url",
        )
    length = response.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise _too_large(param, "", int(length[:20]), max_bytes)


def _too_large(param: str, more_than: str, num_bytes: int, max_bytes: int) -> QZoomError:
    return TooLarge(
        f"{param}.url gives {more_than}{num_bytes} bytes, at most {max_bytes}",
        param=f"{param}.url",
    )


def _failed(param: str, what: str) -> QZoomError:
    return InvalidRequest(f"{param}.url {what}", param=f"{param}.url")
