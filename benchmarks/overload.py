"""What does a server do with several times the load that fits? Saturation, overload, in turn.

Saturation is searched with more and more clients that each wait for their answer. Overload then
comes at a fixed rate, whether answers come or not. Both run several times in turn, so that whatever
else the machine does hits both alike; only their ratios count.
"""

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.clients import chat_body
from benchmarks.questions import mixed_items
from benchmarks.raw_client import Outcome, prepare, send
from benchmarks.report import Plot, Report, Rows, Target
from benchmarks.servers.launch import Endpoint

TIMEOUT_S = 60.0
OK = 200
MIN_GOODPUT_RATIO, MAX_P99_RATIO = 0.8, 2.0
MAX_OPEN = 2000
"""Connections at once; a server that answers none of them must not take the machine along."""


@dataclass(frozen=True, slots=True)
class OverloadLoad:
    """What is run.

    Attributes:
        url: Base URL of the server, without `/v1`.
        clients: Numbers of waiting clients that are tried for saturation.
        times: Rate of the overload over the throughput at saturation.
        seconds: Length of each run.
        rounds: How often saturation and overload take turns.
    """

    url: str
    clients: tuple[int, ...] = (1, 2, 4, 8, 16)
    times: float = 5.0
    seconds: float = 15.0
    rounds: int = 2


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        outcomes: Of all requests.
        seconds: From the first request to the end of the last answer that counts.
        cpu_s: Seconds of CPU that the load generator took.
    """

    outcomes: tuple[Outcome, ...]
    seconds: float
    cpu_s: float

    @property
    def goodput(self) -> float:
        """Answers per second."""
        return sum(one.status == OK for one in self.outcomes) / self.seconds

    def latency_s(self, quantile: float) -> float:
        """Of the answered requests; 0 if there are none."""
        times = [one.seconds for one in self.outcomes if one.status == OK]
        return float(np.quantile(times, quantile)) if times else 0.0

    @property
    def statuses(self) -> dict[str, int]:
        """How many answers had which status."""
        return dict(sorted(Counter(str(one.status) for one in self.outcomes).items()))


def run_with(endpoint: Endpoint, load: OverloadLoad, on_run: Callable[[str], None]) -> Report:
    """Ask one server the questions of the other benches."""
    extra = {"stream": False}
    bodies = [
        chat_body(item.image, item.question, model=endpoint.model, extra=extra)
        for item in mixed_items(64, per_picture=2)
    ]
    return run(replace(load, url=endpoint.url), bodies, on_run)


def run(
    load: OverloadLoad, bodies: Sequence[dict[str, Any]], on_run: Callable[[str], None]
) -> Report:
    """Measure saturation and overload.

    Args:
        load: What to run.
        bodies: Questions, taken in turn; not streaming.
        on_run: Told what is being measured.
    """
    requests = prepare(load.url, bodies)
    asyncio.run(_closed(load.url, requests, 2, min(load.seconds, 5.0)))  # Warm up.
    steps: dict[int, Run] = {}
    for clients in load.clients:
        on_run(f"{clients} clients that wait")
        steps[clients] = asyncio.run(_closed(load.url, requests, clients, load.seconds))
    best = max(steps, key=lambda clients: steps[clients].goodput)
    rate = load.times * steps[best].goodput
    saturated, overloaded = [], []
    for number in range(load.rounds):
        on_run(f"round {number + 1}: {best} clients that wait")
        saturated.append(asyncio.run(_closed(load.url, requests, best, load.seconds)))
        on_run(f"round {number + 1}: {rate:.1f} requests per second")
        overloaded.append(asyncio.run(_open(load.url, requests, rate, load.seconds)))
    return _report(load, steps, best, rate, saturated, overloaded)


async def _closed(url: str, requests: list[bytes], clients: int, seconds: float) -> Run:
    outcomes: list[Outcome] = []
    began, cpu = time.perf_counter(), _cpu_s()

    async def client(first: int) -> None:
        number = first
        while time.perf_counter() - began < seconds:
            outcomes.append(await send(url, requests[number % len(requests)], TIMEOUT_S))
            number += clients

    await asyncio.gather(*(client(number) for number in range(clients)))
    return Run(tuple(outcomes), time.perf_counter() - began, _cpu_s() - cpu)


async def _open(url: str, requests: list[bytes], rate: float, seconds: float) -> Run:
    tasks: list[asyncio.Task[Outcome]] = []
    began, cpu = time.perf_counter(), _cpu_s()
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        if sum(not task.done() for task in tasks[-MAX_OPEN:]) < MAX_OPEN:
            request = requests[number % len(requests)]
            tasks.append(asyncio.create_task(send(url, request, TIMEOUT_S)))
    outcomes = await asyncio.gather(*tasks)
    # What was admitted in this time is finished in it or shortly after; both belong to it.
    return Run(tuple(outcomes), time.perf_counter() - began, _cpu_s() - cpu)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _report(
    load: OverloadLoad,
    steps: dict[int, Run],
    best: int,
    rate: float,
    saturated: list[Run],
    overloaded: list[Run],
) -> Report:
    goodput = _mean([run.goodput for run in overloaded]) / _mean([r.goodput for r in saturated])
    p99 = _mean([r.latency_s(0.99) for r in overloaded]) / _mean(
        [r.latency_s(0.99) for r in saturated]
    )
    lost = sum(one.status == 0 for one in _all(overloaded))
    silent = sum(one.status == 429 and not one.names_retry for one in _all(overloaded))
    cpu = _mean([run.cpu_s / run.seconds for run in overloaded])
    named = [(f"{clients} clients", run) for clients, run in steps.items()]
    named += [(f"saturation {i + 1}", one) for i, one in enumerate(saturated)]
    named += [(f"overload {i + 1}", one) for i, one in enumerate(overloaded)]
    return Report(
        bench="overload",
        load=asdict(load) | {"rate": round(rate, 2), "clients_at_saturation": best},
        tables=[_table(named, load.times)],
        figures={
            "goodput_ratio": round(goodput, 3),
            "p99_ratio": round(p99, 3),
            "lost": lost,
            "refusals_without_retry_after": silent,
            "generator_cores": round(cpu, 3),
            "runs": {name: _figures(run) for name, run in named},
        },
        plot=Plot(
            kind="bars",
            title=f"Answers per second, up to {load.times:g} times saturation",
            x_label="load",
            y_label="answers/s",
            x=tuple(name for name, _ in named),
            series={"answers/s": tuple(run.goodput for _, run in named)},
        ),
        targets=[
            Target("goodput over saturation's", goodput, MIN_GOODPUT_RATIO, at_least=True),
            Target("p99 of accepted over saturation's", p99, MAX_P99_RATIO),
            Target("requests without any answer", float(lost), 0.0),
        ],
        notes=[f"the load generator took {cpu:.2f} cores of this machine during overload"],
    )


def _table(named: list[tuple[str, Run]], times: float) -> Rows:
    rows = tuple(
        (
            name,
            f"{run.goodput:.1f}",
            f"{1e3 * run.latency_s(0.5):.0f}",
            f"{1e3 * run.latency_s(0.99):.0f}",
            ", ".join(f"{status} x {count}" for status, count in run.statuses.items()),
            f"{run.cpu_s / run.seconds:.2f}",
        )
        for name, run in named
    )
    columns = ("load", "answers/s", "p50 ms", "p99 ms", "statuses", "generator cores")
    return Rows(f"Saturation, and {times:g} times its load", columns, rows)


def _figures(run: Run) -> dict[str, Any]:
    return {
        "answers_per_s": round(run.goodput, 3),
        "p50_s": round(run.latency_s(0.5), 4),
        "p99_s": round(run.latency_s(0.99), 4),
        "statuses": run.statuses,
        "seconds": round(run.seconds, 2),
        "generator_cpu_s": round(run.cpu_s, 2),
    }


def _all(runs: list[Run]) -> list[Outcome]:
    return [one for run in runs for one in run.outcomes]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
