"""Every store, on a clock of the test: in memory, in a file, and in a real Redis."""

import shutil
import subprocess
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from qzoom.store.base import Store
from qzoom.store.redis import RedisStore
from qzoom.store.sqlite import SqliteStore

START_S = 10.0


@dataclass
class Clock:
    """Stands still unless it is moved."""

    now: float = 1_800_000_000.25

    def __call__(self) -> float:
        return self.now


@dataclass
class RedisServer:
    """A redis-server of the test's own, on a socket in its folder; it keeps nothing on disk."""

    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def socket(self) -> str:
        return str(self.folder / "redis.sock")

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", ""],
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
        )
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.client().ping()
            except redis.exceptions.ConnectionError:
                assert time.monotonic() < deadline, "redis did not start"
                time.sleep(0.02)
            else:
                return

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=self.socket, socket_timeout=5)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (scripts/system-packages.sh)")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


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
