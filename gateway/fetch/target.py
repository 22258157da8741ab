"""What does a URL point at? Parsed once; all that follows uses the result, never the text again.

Two parsers that read one URL differently are how checks are passed by: the host that is checked
here is the host that is resolved, named to the server and verified in its certificate.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import httpx

from gateway.fetch.addresses import Address
from qzoom.errors import InvalidRequest

DEFAULT_PORTS = {"https": 443, "http": 80}

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
"""What parsers disagree on: control characters, spaces, backslashes."""

_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]{2,63}")
_NUMERIC_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
"""A last label that makes C libraries read a whole name as an IPv4 address, as in 0x7f.1."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL points.

    Attributes:
        url: The parsed URL, without fragment.
        scheme: `https` or `http`.
        host: ASCII name in lower case with at least one dot, or an address in its usual form.
        port: TCP port.
        address: The address, where the URL has one instead of a name.
    """

    url: httpx.URL
    scheme: str
    host: str
    port: int
    address: Address | None

    @property
    def authority(self) -> str:
        """The `Host` header: host, and the port unless it is the scheme's own."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def joined(self, location: str, param: str) -> "Target":
        """Follow a redirect.

        Raises:
            InvalidRequest: If the new URL is not acceptable; its text is not repeated, as it is the
                server's and not the client's.
        """
        try:
            if _FORBIDDEN.search(location):
                raise ValueError
            return _parse(self.url.join(location))
        except (ValueError, httpx.InvalidURL):
            raise InvalidRequest(
                f"{param}.url redirects to what is no acceptable URL", param=f"{param}.url"
            ) from None


def parse_target(text: str, param: str) -> Target:
    """Parse a URL of a request.

    Args:
        text: The URL.
        param: Field of the picture.

    Raises:
        InvalidRequest: If it is no http(s) URL of a public kind; with the reason.
    """
    try:
        if _FORBIDDEN.search(text):
            raise ValueError("has spaces, control characters or backslashes")
        return _parse(httpx.URL(text))
    except httpx.InvalidURL:
        raise InvalidRequest(f"{param}.url is no valid URL", param=f"{param}.url") from None
    except ValueError as error:
        raise InvalidRequest(f"{param}.url {error}", param=f"{param}.url") from None


def _parse(url: httpx.URL) -> Target:
    """Check the parts of a URL; a `ValueError` says what is wrong."""
    if url.scheme not in DEFAULT_PORTS:
        raise ValueError("must begin with https:// or http://")
    if url.userinfo or b"@" in url.netloc:
        raise ValueError("has a user name or password, which is not supported")
    host = url.raw_host.decode("ascii").lower()
    port = DEFAULT_PORTS[url.scheme] if url.port is None else url.port
    if not 0 < port < 65536:
        raise ValueError(f"has port {port}, must be 1 to 65535")
    address = _literal(host)
    if address is None and not _NAME.fullmatch(host):
        raise ValueError("has no full host name")
    plain = url.copy_with(fragment=None)
    return Target(plain, url.scheme, host if address is None else str(address), port, address)


def _literal(host: str) -> Address | None:
    """Read an address in its usual form; refuse the unusual ones."""
    try:
        if ":" in host:
            return IPv6Address(host)
        if _NUMERIC_END.fullmatch(host):
            return IPv4Address(host)
    except AddressValueError:
        raise ValueError("has a malformed address as its host") from None
    return None
