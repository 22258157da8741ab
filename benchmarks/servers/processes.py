"""What do the processes of a server use? Read from /proc, by the tree below one process."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """One process.

    Attributes:
        pid: Of the process.
        title: How it calls itself.
        cpu_s: CPU seconds since it began.
        own_bytes: Resident memory that it shares with nobody.
        shared_bytes: Resident shared memory: the object store, as far as it touched it.
    """

    pid: int
    title: str
    cpu_s: float
    own_bytes: int
    shared_bytes: int


def usage_of_tree(root: int) -> list[Usage]:
    """Measure a process and all below it; those that end meanwhile are left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        usage = _usage(pid)
        if usage is not None:
            found.append(usage)
    return found


def _stat(pid: int) -> list[str] | None:
    """Return the fields behind the name, from the state on."""
    try:
        text = (Path("/proc") / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _usage(pid: int) -> Usage | None:
    folder, fields = Path("/proc") / str(pid), _stat(pid)
    if fields is None:
        return None
    try:
        title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        status = (folder / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    kib = {
        name: int(value.split()[0]) * 1024
        for name, _, value in (line.partition(":") for line in status.splitlines())
        if name in {"RssAnon", "RssFile", "RssShmem"}
    }
    return Usage(
        pid=pid,
        title=title.strip(),
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS,
        own_bytes=kib.get("RssAnon", 0),
        shared_bytes=kib.get("RssShmem", 0),
    )


def cpu_s_of_tree(root: int) -> float:
    """CPU seconds of a process and all below it."""
    return sum(usage.cpu_s for usage in usage_of_tree(root))
