"""How is Redis reached? Bounded connections and waits, to one server or to a set with Sentinels."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from qzoom.store.base import StoreUnavailable
from qzoom.store.passwords import Passwords
from qzoom.store.sentinel import is_sentinel, parse_sentinel

MAX_CONNECTIONS = 32
CONNECT_TIMEOUT_S = 2.0
CALL_TIMEOUT_S = 2.0
"""For whoever has time, such as the command line; a gateway waits far less (`gateway.access`)."""

SENTINEL_TIMEOUT_S = 0.2
"""Of one Sentinel: where some are gone, the others are asked within the second that a gateway
takes to look for its store."""


class _Sentinels(Sentinel):
    """Sentinels that are asked by one connection at a time.

    The package moves the one that answered to the front while it walks over them. Walks that cross
    would lose a Sentinel for good, and leave its connections open.
    """

    def __init__(self, sentinels: Sequence[tuple[str, int]], asked: Mapping[str, Any]) -> None:
        # The package says that it is typed; its constructor is not.
        start: Any = super().__init__
        start(sentinels, sentinel_kwargs=dict(asked))
        self._walking = asyncio.Lock()

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Ask where the primary is."""
        async with self._walking:
            host, port = await super().discover_master(service_name)
            return host, port


@dataclass(frozen=True, slots=True)
class Connected:
    """A way to Redis; nothing is connected before the first command.

    Attributes:
        redis: The server, or the primary that the Sentinels name when a connection is made.
        sentinel: The Sentinels; None where one server is named.
    """

    redis: Redis
    sentinel: Sentinel | None = None

    async def forget(self) -> None:
        """Close connections that nobody uses: the server behind them may have changed its part."""
        await self.redis.connection_pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Let go of all connections."""
        await self.redis.aclose(close_connection_pool=True)
        if self.sentinel is not None:
            await self.sentinel.aclose()


def connect(address: str, passwords: Passwords) -> Connected:
    """Find the way to the Redis at an address.

    Args:
        address: `redis://`, `rediss://`, `unix://`, `redis+sentinel://` or `rediss+sentinel://`,
            without a password.
        passwords: Of the servers.

    Raises:
        ValueError: If the address is not one of Redis.
    """
    kept: dict[str, Any] = {"max_connections": MAX_CONNECTIONS, **_timeouts(CALL_TIMEOUT_S)}
    kept |= {} if passwords.redis is None else {"password": passwords.redis}
    if not is_sentinel(address):
        pool = BlockingConnectionPool.from_url(address, timeout=CALL_TIMEOUT_S, **kept)
        return Connected(Redis.from_pool(pool))
    named = parse_sentinel(address)
    tls: dict[str, Any] = {"ssl": True} if named.tls else {}
    asked = {**tls, **_timeouts(SENTINEL_TIMEOUT_S)}
    if passwords.sentinel is not None:
        asked["password"] = passwords.sentinel
    sentinel = _Sentinels(named.sentinels, asked)
    primary = sentinel.master_for(named.service, db=named.database, **tls, **kept)
    return Connected(primary, sentinel)


@asynccontextmanager
async def translated() -> AsyncGenerator[None, None]:
    """Turn what the client raises into `StoreUnavailable`."""
    try:
        yield
    except (RedisError, OSError) as error:
        # The text may name addresses; the class says what is wrong, that of the cause where the
        # client wraps it.
        known = error.__cause__ if isinstance(error.__cause__, RedisError) else error
        raise StoreUnavailable(f"Redis: {type(known).__name__}") from error


def _timeouts(seconds: float) -> dict[str, Any]:
    return {
        "socket_connect_timeout": min(seconds, CONNECT_TIMEOUT_S),
        "socket_timeout": seconds,
        # Whoever asks decides what a failure means; a script is never run twice by accident.
        "retry": Retry(NoBackoff(), 0),
    }
