"""A real set of Redis servers on loopback: a primary, two replicas, and three Sentinels."""

import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import redis

SERVICE = "qzoom"
DOWN_AFTER_MS = 1500
PATIENCE_S = 60.0


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(what: str, look: Callable[[], bool]) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if look():
                return
        except redis.exceptions.RedisError:
            pass
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S} s"
        time.sleep(0.05)


@dataclass
class RedisSet:
    """Six processes, each with a folder of its own.

    Attributes:
        folder: Of the test.
        password: That all ask for; empty for none.
        servers: Ports of the Redis servers and what runs there.
        sentinels: The same of the Sentinels.
    """

    folder: Path
    password: str = ""
    servers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    sentinels: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> "RedisSet":
        try:
            first = _port()
            self.start(first)
            for _ in range(2):
                self.start(_port(), f"replicaof 127.0.0.1 {first}")
            eventually("two replicas", lambda: self._in_sync(first) == 2)
            for _ in range(3):
                self._watch(_port(), first)
            eventually("the Sentinels see all", lambda: all(map(self._sees_all, self.sentinels)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.sentinels.values(), *self.servers.values()):
            process.kill()
            process.wait(10)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    @property
    def primary(self) -> int:
        """Port of the server that the Sentinels call the primary, once most agree."""
        named = []
        for port in self.sentinels:
            client = self.client(port)
            named.append(int(client.sentinel_get_master_addr_by_name(SERVICE)[1]))
        return max(set(named), key=named.count)

    def client(self, port: int) -> redis.Redis:
        return redis.Redis(port=port, password=self.password or None, socket_timeout=5)

    def kill_primary(self) -> int:
        """Kill the primary; returns its port."""
        port = self.primary
        self.servers[port].kill()
        self.servers[port].wait(10)
        return port

    def wait_for_another(self, than: int) -> int:
        """Wait until another server is the primary and takes writes; returns its port."""

        def is_there() -> bool:
            port = self.primary
            return port != than and self.client(port).role()[0] in (b"master", "master")

        eventually("another primary", is_there)
        return self.primary

    def start(self, port: int, *lines: str) -> None:
        """Start a server, or start it again."""
        config = self.folder / f"redis-{port}.conf"
        if not config.exists():
            asked = (f"requirepass {self.password}", f"masterauth {self.password}")
            common = (
                f"port {port}", "bind 127.0.0.1", f"dir {self.folder}", 'save ""',
                f"dbfilename {port}.rdb", "repl-diskless-sync-delay 0",
                *(asked if self.password else ()),
            )  # fmt: skip
            config.write_text("\n".join((*common, *lines)) + "\n")
        self.servers[port] = self._run("redis-server", str(config))
        eventually("a server", lambda: bool(self.client(port).ping()))

    def _watch(self, port: int, primary: int) -> None:
        config = self.folder / f"sentinel-{port}.conf"
        lines = [
            f"port {port}", "bind 127.0.0.1", f"dir {self.folder}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 5000",
        ]  # fmt: skip
        if self.password:
            lines += [f"sentinel auth-pass {SERVICE} {self.password}"]
            lines += [f"requirepass {self.password}", f"sentinel sentinel-pass {self.password}"]
        config.write_text("\n".join(lines) + "\n")
        self.sentinels[port] = self._run("redis-server", str(config), "--sentinel")
        eventually("a Sentinel", lambda: bool(self.client(port).ping()))

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=self.folder)

    def _in_sync(self, port: int) -> int:
        return sum(
            info["state"] == "online"
            for key, info in self.client(port).info("replication").items()
            if key.startswith("slave") and isinstance(info, dict)
        )

    def _sees_all(self, port: int) -> bool:
        state = self.client(port).sentinel_masters()[SERVICE]
        return bool(state["num-slaves"] == 2 and state["num-other-sentinels"] == 2)
