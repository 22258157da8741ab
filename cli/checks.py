"""Which checks does `qzoom doctor` make? Each one gives findings, none of them raises."""

import os
import platform
import re
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from qzoom.builtin import builtin_model
from qzoom.errors import QZoomError

MIN_PYTHON = (3, 11)
MIN_CORES = 2
MIN_MEMORY_GIB = 6.0
MIN_SHM_GIB = 1.0
_GIB = 1024**3
_NEEDED_EXTRAS = ("model", "gateway")
_OPTIONAL_EXTRAS = ("train", "dev")


class Verdict(Enum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        verdict: `MISSING` where the system cannot run without it.
        what: What was looked at.
        found: What was found there.
        remedy: The command that mends it, or an empty text.
    """

    verdict: Verdict
    what: str
    found: str
    remedy: str = ""


def examine(model: Path | None, ports: Sequence[int]) -> list[Finding]:
    """Make all checks.

    Args:
        model: Checkpoint folder; None looks at the built-in model.
        ports: TCP ports that the system shall listen on.

    Returns:
        Findings in the order in which they should be mended.
    """
    return [
        _python(),
        _extra("", needed=True),
        *(_extra(extra, needed=True) for extra in _NEEDED_EXTRAS),
        *(_extra(extra, needed=False) for extra in _OPTIONAL_EXTRAS),
        _torch(),
        _cores(),
        _memory(),
        _shared_memory(),
        *(_port(port) for port in ports),
        _program("redis-server", "a store shared by several gateways", "apt-get install redis"),
        _program("chromium", "the browser tests", "apt-get install chromium"),
        _model(model),
    ]


def _python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info >= MIN_PYTHON:
        return Finding(Verdict.OK, "Python", found)
    needed = ".".join(map(str, MIN_PYTHON))
    return Finding(Verdict.MISSING, "Python", found, f"install Python {needed} or newer")


def _extra(extra: str, *, needed: bool) -> Finding:
    """Look for the packages of one extra; without a name, for those that everything needs."""
    what = f"packages [{extra}]" if extra else "packages"
    wanted = _requirements(extra)
    bad = [problem for name, pin in wanted.items() if (problem := _package_problem(name, pin))]
    if not bad:
        return Finding(Verdict.OK, what, f"all {len(wanted)}")
    verdict = Verdict.MISSING if needed else Verdict.NOTE
    remedy = f"pip install 'qzoom[{extra}]'" if extra else "pip install qzoom"
    return Finding(verdict, what, ", ".join(bad), remedy)


def _requirements(extra: str) -> dict[str, str]:
    """Read from our own metadata which packages an extra asks for: name -> exact pin or empty."""
    wanted: dict[str, str] = {}
    for line in requires("qzoom") or []:
        requirement, _, marker = line.partition(";")
        match = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        if (match.group(1) if match else "") != extra:
            continue
        name, extras, rest = _split(requirement)
        if name == "qzoom":
            for nested in extras:
                wanted |= _requirements(nested)
        else:
            pin = re.fullmatch(r"==([\w.]+)", rest)
            wanted[name] = pin.group(1) if pin else ""
    return wanted


def _split(requirement: str) -> tuple[str, list[str], str]:
    match = re.fullmatch(r"([\w.-]+)(?:\[([\w,\s-]+)\])?\s*(.*)", requirement.strip())
    assert match, requirement
    extras = [name.strip() for name in (match.group(2) or "").split(",") if name.strip()]
    return match.group(1), extras, match.group(3).strip()


def _package_problem(name: str, pin: str) -> str:
    try:
        found = version(name)
    except PackageNotFoundError:
        return name
    # A build such as 2.13.0+cpu satisfies the pin 2.13.0.
    return f"{name} {found} instead of {pin}" if pin and found.partition("+")[0] != pin else ""


def _torch() -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding(Verdict.MISSING, "PyTorch", str(error), "pip install 'qzoom[model]'")
    if torch.cuda.is_available():
        return Finding(
            Verdict.OK, "PyTorch", f"{torch.__version__}, {torch.cuda.get_device_name()}"
        )
    return Finding(Verdict.OK, "PyTorch", f"{torch.__version__}, CPU only")


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0))
    verdict = Verdict.OK if cores >= MIN_CORES else Verdict.NOTE
    return Finding(verdict, "CPU cores", f"{cores}", "" if cores >= MIN_CORES else "slow start")


def _memory() -> Finding:
    gib = min(_machine_memory(), _cgroup_limit()) / _GIB
    if gib >= MIN_MEMORY_GIB:
        return Finding(Verdict.OK, "memory", f"{gib:.1f} GiB")
    return Finding(
        Verdict.NOTE, "memory", f"{gib:.1f} GiB", f"the system wants {MIN_MEMORY_GIB:g} GiB"
    )


def _machine_memory() -> float:
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _cgroup_limit() -> float:
    """Memory that the container may use; infinite where there is no limit."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return float(Path(path).read_text(encoding="ascii").replace("max", "inf"))
        except OSError:
            continue
    return float("inf")


def _shared_memory() -> Finding:
    """Ray keeps pictures and prefill states there; without room it goes to disk."""
    try:
        gib = shutil.disk_usage("/dev/shm").free / _GIB
    except OSError:
        return Finding(Verdict.NOTE, "shared memory", "none", "mount /dev/shm")
    if gib >= MIN_SHM_GIB:
        return Finding(Verdict.OK, "shared memory", f"{gib:.1f} GiB free in /dev/shm")
    return Finding(Verdict.NOTE, "shared memory", f"{gib:.1f} GiB free", "docker run --shm-size=2g")


def _port(port: int) -> Finding:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            remedy = "choose another with --port or --grpc-port"
            return Finding(Verdict.NOTE, f"port {port}", str(error.strerror), remedy)
    return Finding(Verdict.OK, f"port {port}", "free")


def _program(name: str, purpose: str, remedy: str) -> Finding:
    path = shutil.which(name)
    if path:
        return Finding(Verdict.OK, name, path)
    return Finding(Verdict.NOTE, name, f"not found; only for {purpose}", remedy)


def _model(model: Path | None) -> Finding:
    what = "model" if model else "built-in model"
    try:
        folder = model or builtin_model()
        return Finding(Verdict.OK, what, _open_model(folder))
    except ImportError:
        return Finding(
            Verdict.NOTE, what, "cannot be opened without PyTorch", "pip install 'qzoom[model]'"
        )
    except (QZoomError, ValueError, OSError) as error:
        return Finding(Verdict.MISSING, what, str(error), "make train, or give --model")


def _open_model(folder: Path) -> str:
    from qzoom.model.loading import open_checkpoint

    opened: Callable[[Path], object] = open_checkpoint
    checkpoint = opened(folder)
    return f"{folder} ({getattr(checkpoint, 'family', '')})"
