"""The chart's Redis: its script and its configuration, run by a real redis-server."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from deploy.k8s.manifest import Manifest, find
from deploy.k8s.render import render

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed"
)

PASSWORD = 'a "quoted" pass \\ word'
START_S = 10.0

EVERY_S = 2.5
"""Longer than the second within which the log reaches the disk."""


@dataclass
class Redis:
    """One server with the chart's files, moved into a folder of the test."""

    folder: Path
    port: int
    script: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {"PATH": os.environ["PATH"], "REDIS_PASSWORD": PASSWORD}
        command = ["/bin/sh", "-ceu", self.script]
        self.process = subprocess.Popen(
            command, env=environment, cwd=self.folder, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.client().ping()
            except redis.exceptions.ConnectionError:
                assert time.monotonic() < deadline, "redis did not start"
                time.sleep(0.05)
            else:
                return

    def client(self, password: str | None = PASSWORD) -> redis.Redis:
        return redis.Redis(port=self.port, password=password, socket_timeout=5)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)


def _container(manifests: list[Manifest]) -> Manifest:
    [stateful_set] = find(manifests, "StatefulSet")
    container: Manifest = stateful_set["spec"]["template"]["spec"]["containers"][0]
    return container


@pytest.fixture
def server(tmp_path) -> Iterator[Redis]:
    manifests = render({}, "qzoom", "qzoom")
    [config] = [m for m in find(manifests, "ConfigMap") if "redis.conf" in m["data"]]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text = config["data"]["redis.conf"].replace("port 6379", f"port {port}\nbind 127.0.0.1")
    script = _container(manifests)["args"][0]
    for mount in ("/data", "/etc/redis", "/run/redis"):
        folder = tmp_path / mount.strip("/").replace("/", "-")
        folder.mkdir()
        text, script = (part.replace(mount, str(folder)) for part in (text, script))
    (tmp_path / "etc-redis" / "redis.conf").write_text(text)
    redis_server = Redis(tmp_path, port, script)
    try:
        redis_server.start()
        yield redis_server
    finally:
        redis_server.kill()


def test_a_write_survives_a_kill(server: Redis):
    server.client().set("actor", b"state")
    time.sleep(EVERY_S)

    server.kill()
    server.start()

    assert server.client().get("actor") == b"state"


def test_nobody_gets_in_without_the_password(server: Redis):
    with pytest.raises(redis.exceptions.AuthenticationError):
        server.client(password=None).ping()
    with pytest.raises(redis.exceptions.AuthenticationError):
        server.client(password="guess").ping()


def test_the_password_is_in_no_argument_and_no_readable_file(server: Redis):
    assert server.process is not None
    arguments = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
    secret = server.folder / "run-redis" / "password.conf"

    assert PASSWORD.encode() not in arguments
    assert b"redis-server" in arguments
    assert secret.stat().st_mode & 0o077 == 0


def test_a_full_redis_refuses_instead_of_forgetting(server: Redis):
    client = server.client()
    config = client.config_get("maxmemory*")
    client.set("kept", "x")
    client.config_set("maxmemory", "100kb")

    assert config["maxmemory-policy"] == "noeviction"
    assert int(config["maxmemory"]) == 256 * 2**20
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        client.set("more", "y")
    assert client.get("kept") == b"x"


def test_the_probe_tells_a_working_server_from_a_broken_one(server: Redis):
    probe = _container(render({}, "qzoom", "qzoom"))["readinessProbe"]["exec"]["command"]
    command = [*probe[:-1], probe[-1].replace("redis-cli", f"redis-cli -p {server.port}")]
    environment = {"PATH": os.environ["PATH"], "REDIS_PASSWORD": PASSWORD}

    assert subprocess.run(command, env=environment, timeout=10, check=False).returncode == 0
    environment["REDIS_PASSWORD"] = "wrong"
    assert subprocess.run(command, env=environment, timeout=10, check=False).returncode != 0
