"""Which store does an address mean?

    (empty)                      the embedded store of this user on this machine
    sqlite:///path/to/file       an embedded store in that file; a relative path has two slashes
    redis://host:6379/0          Redis; rediss:// with TLS, unix:///path for a socket
    redis+sentinel://h1,h2/name  the Redis that these Sentinels call the primary (`store.sentinel`)

The password of Redis is no part of an address, which stands in logs and configuration: it is read
from QZOOM_STORE_PASSWORD by the process that connects, that of Sentinels from
QZOOM_STORE_SENTINEL_PASSWORD.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

from qzoom.errors import InvalidRequest
from qzoom.store import sentinel
from qzoom.store.base import Store
from qzoom.store.passwords import REDIS_VARIABLE, Passwords
from qzoom.store.sqlite import SqliteStore

_REDIS_SCHEMES = ("redis", "rediss", "unix")


def default_path() -> Path:
    """Return the file of the embedded store: one for each user of a machine."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "qzoom" / "store.sqlite3"


def check_address(address: str) -> str:
    """Return an address that `open_store` takes.

    Raises:
        ValueError: If it is none, or has a password in it.
    """
    if not address:
        return address
    if sentinel.is_sentinel(address):
        sentinel.parse_sentinel(address)
        return address
    try:
        parts = urlsplit(address)
        password = parts.password
        port = parts.port
    except ValueError as error:
        raise ValueError(f"the address of the store cannot be read: {error}") from None
    del port
    if password is not None:
        raise ValueError(f"the password of the store belongs in {REDIS_VARIABLE}")
    if parts.scheme == "sqlite":
        if not _sqlite_path(address).name:
            raise ValueError("the address of the store names no file: sqlite:///path/to/file")
    elif parts.scheme not in _REDIS_SCHEMES:
        raise ValueError(
            f"the address of the store begins with {parts.scheme[:20]!a}, "
            f"must be sqlite, {', '.join((*_REDIS_SCHEMES, *sentinel.SCHEMES))}"
        )
    return address


def open_store(address: str, namespace: str = "qzoom") -> Store:
    """Open the store at an address. Redis is reached with the first call, not here.

    Args:
        address: As above.
        namespace: Keeps several systems in one Redis apart.

    Raises:
        InvalidRequest: If the address means no store.
        StoreUnavailable: If the file of an embedded store cannot be used.
    """
    try:
        check_address(address)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    if not address or address.startswith("sqlite:"):
        return SqliteStore(_sqlite_path(address) if address else default_path())
    from qzoom.store.redis import RedisStore  # noqa: PLC0415 the embedded store needs no client

    return RedisStore(address, Passwords.from_environment(), namespace)


def _sqlite_path(address: str) -> Path:
    path = address.removeprefix("sqlite:")
    return Path(path[2:] if path.startswith("//") else path).expanduser()
