"""Every store, on a clock of the test: in memory, in a file, and in a real Redis."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

import pytest

from qzoom.store.base import Store
from qzoom.store.redis import RedisStore
from qzoom.store.sqlite import SqliteStore


@dataclass
class Clock:
    """Stands still unless it is moved."""

    now: float = 1_800_000_000.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "file", "redis"])
def make_store(request, tmp_path, clock) -> Callable[[], Store]:
    """Open the same store again and again, as several gateways do; memory is one process' own."""
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        with server.client() as client:
            client.flushall()
        return lambda: RedisStore(server.url, clock=clock)
    if request.param == "file":
        return lambda: SqliteStore(tmp_path / "store.sqlite3", clock)
    only = SqliteStore(None, clock)
    return lambda: only


@pytest.fixture
async def store(make_store) -> AsyncGenerator[Store, None]:
    opened = make_store()
    yield opened
    await opened.close()
