"""Ray's control store behind Sentinels, as `redis.sentinel.set` of the chart has it: it comes back.

The control store alone, a single process, stands for the head: it ends when its Redis is gone, as
the head's pod does, and is started again, as KubeRay does it.
"""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray

from tests.redis_set import RedisSet, eventually

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        shutil.which("redis-server") is None,
        reason="redis-server is not installed (scripts/system-packages.sh)",
    ),
]

SERVER = Path(ray.__file__).parent / "core" / "src" / "ray" / "gcs" / "gcs_server"
PASSWORD = "of-all"
CALL_S = 60.0


@contextmanager
def _control_store(sentinel: int, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run one; gives its process and port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [
        str(SERVER), "--redis_address=127.0.0.1", f"--redis_port={sentinel}",
        f"--redis_password={PASSWORD}", "--retry_redis=true", f"--gcs_server_port={port}",
        "--node_ip_address=127.0.0.1", "--session_name=test", f"--session_dir={folder}",
        f"--log_dir={folder}",
    ]  # fmt: skip
    variables = {"RAY_external_storage_namespace": "test", "RAY_gcs_storage": "redis"}
    with (folder / f"gcs-{port}.txt").open("wb") as log:
        process = subprocess.Popen(command, env=_environment(**variables), stdout=log, stderr=log)
        try:
            yield process, port
        finally:
            process.kill()
            process.wait(10)


def _environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "RAY_AUTH_MODE": "disabled", **variables}


def _ask(port: int, call: str) -> str:
    """Call the client's method in a process of its own; gives what it returned."""
    code = f"from ray._raylet import GcsClient; c = GcsClient(address='127.0.0.1:{port}'); "
    done = subprocess.run(
        [sys.executable, "-c", f"{code}print(c.{call})"],
        env=_environment(), capture_output=True, text=True, timeout=CALL_S, check=False,
    )  # fmt: skip
    return done.stdout.strip()


def test_what_the_head_knew_is_there_after_a_failover(tmp_path: Path):
    with RedisSet(tmp_path, password=PASSWORD) as redis_set:
        sentinel = next(iter(redis_set.sentinels))
        with _control_store(sentinel, tmp_path) as (process, port):
            eventually(
                "a write", lambda: _ask(port, "internal_kv_put(b'k', b'v', True, b'test')") == "1"
            )
            gone = redis_set.kill_primary()
            redis_set.wait_for_another(gone)
            eventually("the end of a head without Redis", lambda: process.poll() is not None)
        with _control_store(sentinel, tmp_path) as (_, port):
            eventually("a read", lambda: _ask(port, "internal_kv_get(b'k', b'test')") == "b'v'")
