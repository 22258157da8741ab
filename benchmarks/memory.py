"""Does the system keep what it should give back? Memory of each service while requests pass."""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.clients import Client, Sample, open_client
from benchmarks.contest import OURS, Say, asked_alike
from benchmarks.questions import Method, mixed_items
from benchmarks.report import Plot, Report, Rows, Target
from benchmarks.servers.launch import ServerProcess
from benchmarks.servers.processes import usage_of_tree
from qzoom.errors import QZoomError

METHODS: tuple[Method, ...] = ({}, {"route": "direct"}, {"route": "zoom", "tau_roi": 0.02})
SETTLE_S = 3.0
CHECKED = 8
"""Of the first answers, which are asked for again in the end."""

GROWTH_LIMIT = 1.05
"""Memory of a service at the end, of what it had once it was warm."""

_REPLICA = re.compile(r"ray::ServeReplica:[^:]*:(\w+)")
STORE = "object store"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLoad:
    """What is run.

    Attributes:
        requests: In all.
        warm: The first of them, which fill caches and pools.
        clients: Requests in flight.
        samples: Measurements while they run.
        per_picture: Questions about each picture.
        threads: Of each service.
    """

    requests: int = 400
    warm: int = 100
    clients: int = 4
    samples: int = 12
    per_picture: int = 2
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Moment:
    """Memory at one moment.

    Attributes:
        answered: Requests that were answered before.
        mib: Memory in MiB by service, and of the live objects in the store.
    """

    answered: int
    mib: dict[str, float]


def run(model: Path, load: MemoryLoad, say: Say) -> Report:
    """Send requests, and look at all processes in between and at the end.

    Raises:
        QZoomError: If a request fails.
    """
    given = {"model": str(model), "threads": load.threads}
    with ServerProcess(OURS, "benchmarks.servers.ours", given) as server:
        moments = [_look(server, 0)]
        moments += asyncio.run(_load(server, load, say))
        say("settling")
        time.sleep(SETTLE_S)
        moments.append(_look(server, load.requests))
    return _report(model, load, moments)


async def _load(server: ServerProcess, load: MemoryLoad, say: Say) -> list[Moment]:
    items = mixed_items(load.requests, per_picture=load.per_picture, methods=METHODS, max_tokens=8)
    waiting, answered, moments = iter(range(load.requests)), 0, list[Moment]()
    first: list[Sample] = []
    marks = {max(1, load.requests * n // load.samples) for n in range(1, load.samples)}
    marks.add(load.warm)

    async with open_client(server.endpoint, "rest") as client:

        async def work(client: Client) -> None:
            nonlocal answered
            for index in waiting:
                sample = await client.ask(index, items[index])
                if sample.error is not None:
                    raise QZoomError(f"a request failed: {sample.error}")
                answered += 1
                if len(first) < CHECKED:
                    first.append(sample)
                if answered in marks:
                    say(f"{answered} of {load.requests} answered")
                    moments.append(await asyncio.to_thread(_look, server, answered))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(load.clients):
                    group.create_task(work(client))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        for before in first:
            after = await client.ask(before.item, asked_alike(items[before.item], before))
            if after.text != before.text:
                raise QZoomError(f"{before.text!r} at first, {after.text!r} in the end")
    return sorted(moments, key=lambda moment: moment.answered)


def _look(server: ServerProcess, answered: int) -> Moment:
    mib: dict[str, float] = {}
    for usage in usage_of_tree(server.pid):
        if found := _REPLICA.match(usage.title):
            name = found.group(1)
            mib[name] = mib.get(name, 0.0) + usage.own_bytes / 2**20
    stored_bytes = server.ask("stored_bytes")
    assert isinstance(stored_bytes, int)
    mib[STORE] = stored_bytes / 2**20
    return Moment(answered, mib)


def _report(model: Path, load: MemoryLoad, moments: Sequence[Moment]) -> Report:
    idle, last = moments[0], moments[-1]
    names = list(idle.mib)
    warm = next((m for m in moments if m.answered >= load.warm), idle)
    peak = {name: max(m.mib.get(name, 0.0) for m in moments) for name in names}
    services = [name for name in names if name != STORE]
    targets = [
        Target(f"{name}: after, of warm", last.mib[name] / warm.mib[name], GROWTH_LIMIT)
        for name in services
    ]
    return Report(
        bench="memory",
        load={**asdict(load), "model": model.name},
        tables=[
            Rows(
                title=f"MiB that nobody shares; {load.requests} requests, {load.clients} at a time",
                columns=("", "idle", f"after {warm.answered}", "most", "after", "after, of warm"),
                rows=tuple(
                    (
                        name,
                        *(f"{v:.1f}" for v in (idle.mib[name], warm.mib[name], peak[name])),
                        f"{last.mib[name]:.1f}",
                        f"{last.mib[name] / warm.mib[name]:.3f}" if warm.mib[name] else "",
                    )
                    for name in names
                ),
            )
        ],
        figures={"moments": [asdict(moment) for moment in moments], "peak_mib": peak},
        plot=Plot(
            kind="lines",
            title="Memory of each service while requests pass",
            x_label="requests answered",
            y_label="MiB",
            x=tuple(float(m.answered) for m in moments),
            series={name: tuple(m.mib.get(name, 0.0) for m in moments) for name in names},
        ),
        targets=targets,
        notes=[
            "Object store: bytes of live objects; state in flight, and what caches hold. Services: "
            "memory that no other process shares.",
            f"The first {CHECKED} questions, asked again in the end, got the same answers.",
        ],
    )
