"""How is a server under test started, asked and stopped? As a child process, with deadlines."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qzoom.errors import Unavailable

START_TIMEOUT_S = 240.0
ASK_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0
_TAIL_LINES = 6


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server is asked.

    Attributes:
        name: In tables.
        url: Base URL of its REST interface, without `/v1`.
        model: Model's name there.
        grpc_target: `host:port` of our gRPC service; None where there is none.
    """

    name: str
    url: str
    model: str
    grpc_target: str | None = None


class ServerProcess:
    """A server under test; runs as a context manager.

    Args:
        name: In tables.
        module: Run with `python -m`; speaks as `benchmarks.servers.child` says.
        given: Its arguments, JSON types.
        prefix: What comes before the command, such as `unshare -n`.
        environment: Variables that are added to this process' own.
    """

    def __init__(
        self,
        name: str,
        module: str,
        given: Mapping[str, Any],
        *,
        prefix: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._command = [*prefix, sys.executable, "-m", module, json.dumps(dict(given))]
        self._environment = {**os.environ, **(environment or {})}
        self._messages: queue.Queue[str | None] = queue.Queue()
        self._process: subprocess.Popen[str] | None = None
        self._complaints: Path | None = None
        self._reader: threading.Thread | None = None
        self._asking = threading.Lock()
        self.ready: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """Of the child, the root of the server's processes."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def endpoint(self) -> Endpoint:
        """Where to ask."""
        ready = self.ready
        return Endpoint(self.name, ready["url"], ready["model"], ready.get("grpc_target"))

    def __enter__(self) -> Self:
        """Start, and wait until the server is ready.

        Raises:
            Unavailable: With the last lines that it wrote, if it does not start.
        """
        with tempfile.NamedTemporaryFile("w", suffix=".log", delete=False) as complaints:
            self._complaints = Path(complaints.name)
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=self._environment,
                text=True,
                # Ctrl-C is for the bench, which then ends its servers in order.
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.ready = self._receive(START_TIMEOUT_S)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server, whatever it does."""
        self._stop()

    def ask(self, question: str) -> object:
        """Ask the child for something that only it knows. Any thread may call this.

        Returns:
            What it answers, a JSON value.

        Raises:
            Unavailable: If it does not answer.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        with self._asking:
            self._process.stdin.write(question + "\n")
            self._process.stdin.flush()
            return self._receive(ASK_TIMEOUT_S)["answer"]

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        try:
            line = self._messages.get(timeout=timeout_s)
        except queue.Empty:
            raise Unavailable(f"{self.name} says nothing for {timeout_s:g} s") from None
        if line is None:
            raise Unavailable(f"{self.name} ended: {self._last_lines()}")
        message = json.loads(line)
        assert isinstance(message, dict)
        return message

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._messages.put(line)
        self._messages.put(None)

    def _last_lines(self) -> str:
        assert self._complaints is not None
        text = self._complaints.read_text(encoding="utf-8", errors="replace")
        return " / ".join(text.splitlines()[-_TAIL_LINES:])

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_TIMEOUT_S)
        if self._reader is not None:
            # Ends with the pipe; a grandchild that outlives the child would hold it open.
            self._reader.join(STOP_TIMEOUT_S)
        if process.stdout is not None:
            process.stdout.close()
        if self._complaints is not None:
            self._complaints.unlink(missing_ok=True)
