"""Which Redis is the primary? Where Sentinels watch over several, an address names the Sentinels.

    redis+sentinel://host1:26379,host2:26379,host3:26379/primary/0
    rediss+sentinel://...                                             with TLS, to all of them

`primary` is the name under which the Sentinels know the set; the number of the database may be left
out, and ports too.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from qzoom.store.passwords import REDIS_VARIABLE, SENTINEL_VARIABLE

SCHEMES = ("redis+sentinel", "rediss+sentinel")
DEFAULT_PORT = 26379
MAX_SENTINELS = 9
"""They are asked one after the other; more would not be asked in time."""

_PATH = re.compile(r"/(?P<service>[A-Za-z0-9._-]{1,100})(?:/(?P<database>\d{1,4}))?")


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """A set of Redis servers, as its Sentinels know it.

    Attributes:
        sentinels: Host and port of each.
        service: What they call the set.
        database: Number of the database.
        tls: Whether all connections are encrypted.
    """

    sentinels: tuple[tuple[str, int], ...]
    service: str
    database: int = 0
    tls: bool = False


def is_sentinel(address: str) -> bool:
    """Whether an address names Sentinels."""
    return address.partition(":")[0] in SCHEMES


def parse_sentinel(address: str) -> SentinelAddress:
    """Read an address of Sentinels.

    Raises:
        ValueError: If it cannot be read, or has a password in it.
    """
    parts = urlsplit(address)
    if "@" in parts.netloc:
        raise ValueError(
            f"the passwords of the store belong in {REDIS_VARIABLE} and {SENTINEL_VARIABLE}"
        )
    found = _PATH.fullmatch(parts.path)
    if found is None:
        raise ValueError(
            "the address of the store does not name what the Sentinels call the primary: "
            f"{parts.scheme}://HOST:{DEFAULT_PORT},.../NAME"
        )
    hosts = parts.netloc.split(",")
    if len(hosts) > MAX_SENTINELS:
        raise ValueError(
            f"the address of the store names {len(hosts)} Sentinels, at most {MAX_SENTINELS}"
        )
    return SentinelAddress(
        tuple(_host(host) for host in hosts),
        found["service"],
        int(found["database"] or 0),
        parts.scheme == "rediss+sentinel",
    )


def _host(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"the address of the store cannot be read: {error}") from None
    if not host:
        raise ValueError("the address of the store names a Sentinel without a host")
    return host, DEFAULT_PORT if port is None else port
