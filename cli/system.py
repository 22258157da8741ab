"""How do `qzoom serve` and `qzoom demo` start and stop the system? With visible progress."""

import json
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from cli.console import Failure, err
from qzoom.errors import Unavailable

if TYPE_CHECKING:
    from types import FrameType

    from deploy.local import LocalConfig, Progress

HEARTBEAT_S = 10.0
_PHASES = {
    "ray": "starting Ray",
    "serve": "starting Ray Serve: REST and gRPC",
    "services": "loading the model: one part for each service",
    "ready": "ready",
}


@dataclass(frozen=True, slots=True)
class System:
    """A running system.

    Attributes:
        url: Base address of REST.
        grpc_address: `host:port` of gRPC.
        model: Name of the model.
        services: What each service reports: load time, parameters, memory.
    """

    url: str
    grpc_address: str
    model: str
    services: list[dict[str, Any]]


@contextmanager
def running_system(config: "LocalConfig") -> Iterator[System]:
    """Run the system for the length of a block. SIGTERM ends the block as Ctrl-C does.

    In the end new requests are refused and those that run are finished, then all of it is stopped.

    Args:
        config: Where and what.

    Yields:
        The system, ready for questions.

    Raises:
        Failure: If it cannot start.
    """
    from deploy.local import LocalSystem

    check_checkpoint(config.app.model)
    # Serve tells of every step on the terminal; a filter outlives its own set-up of the logger.
    logging.getLogger("ray.serve").addFilter(lambda record: record.levelno >= logging.WARNING)
    watch = _Watch()
    local = LocalSystem(config)
    try:
        try:
            with err.status("starting"):
                ready = local.start(watch.tell)
        except Unavailable as error:
            raise Failure(error.message) from None
        # Ray takes SIGTERM over when it starts.
        _interrupt_on_sigterm()
        yield System(
            local.url,
            local.grpc_target,
            config.app.gateway_settings().model_name,
            ready["services"],
        )
    finally:
        # Another Ctrl-C ends what still runs.
        with suppress(KeyboardInterrupt), err.status("finishing what runs"):
            local.drain()
        # A further one must not leave half of the system behind.
        previous = {name: signal.signal(name, signal.SIG_IGN) for name in _STOPPING}
        with err.status("stopping"):
            local.stop()
        for name, handler in previous.items():
            signal.signal(name, handler)


_STOPPING = (signal.SIGINT, signal.SIGTERM)


def _interrupt_on_sigterm() -> None:
    def interrupt(_signal: int, _frame: "FrameType | None") -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def check_checkpoint(folder: Path) -> None:
    """Look at a checkpoint folder without loading it, so that a typo costs no minute.

    Raises:
        Failure: If it is none.
    """
    if not folder.is_dir():
        raise Failure(f"{folder} is not a folder; --model wants a checkpoint folder")
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failure(f"{folder} has no readable config.json: {error}") from None
    if not list(folder.glob("*.safetensors")):
        raise Failure(f"{folder} has no *.safetensors file")


def service_table(services: list[dict[str, Any]]) -> Table:
    """Show what each service holds."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("service")
    for heading in ("loaded in", "parameters", "their size", "memory", "pid"):
        table.add_column(heading, justify="right")
    table.add_column("device")
    for row in services:
        table.add_row(
            row["service"],
            f"{row['load_s']:.1f} s",
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['parameter_bytes'] / 2**20:.1f} MiB",
            f"{row['memory_bytes'] / 2**20:.0f} MiB",
            str(row["pid"]),
            f"{row['device']} {row['dtype']}",
        )
    return table


class _Watch:
    """Prints what changes while the system starts, and a line now and then if nothing does."""

    def __init__(self) -> None:
        self._phase = ""
        self._states: dict[str, str] = {}
        self._spoken_s = 0.0

    def tell(self, progress: "Progress") -> None:
        """Take the newest progress."""
        lines = []
        if progress.phase != self._phase:
            _interrupt_on_sigterm()
            self._phase = progress.phase
            lines.append(_PHASES[progress.phase])
        changed = {
            name: state
            for name, state in progress.services.items()
            if self._states.get(name) != state
        }
        lines += [f"  {name} {state.lower()}" for name, state in sorted(changed.items())]
        self._states |= changed
        if not lines and progress.elapsed_s - self._spoken_s >= HEARTBEAT_S:
            waiting = [name for name, state in self._states.items() if state != "HEALTHY"]
            lines.append(f"  waiting for {', '.join(sorted(waiting)) or 'Ray'}")
        for line in lines:
            self._spoken_s = progress.elapsed_s
            err.print(f"[dim]{progress.elapsed_s:6.1f} s[/]  {line}", highlight=False)
