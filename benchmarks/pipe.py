"""What does passing a request through five services cost? Stages that compute nothing.

The same body goes through Ray Serve, with several profiles of it, and through five functions of one
process, over the same HTTP. CPU seconds are those of all processes of the server; the client's are
left out.
"""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import httpx
import numpy as np

from benchmarks.contest import Say
from benchmarks.measure import spread
from benchmarks.report import Plot, Report, Rows, Target
from benchmarks.servers.launch import ServerProcess
from benchmarks.servers.processes import cpu_s_of_tree
from deploy.local import ENVIRONMENT, LOOPBACK
from qzoom.errors import QZoomError

ONE_PROCESS = "one process"
ALL_INTERFACES = "0.0.0.0"
LEAN_SERVE = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
}


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to run Serve.

    Attributes:
        variables: Of Ray Serve.
        by_value: Whether stages are called through Serve's gRPC transport.
        has_own_port: Whether the gateway is asked without Serve's proxy.
    """

    variables: dict[str, str] = field(default_factory=dict)
    by_value: bool = False
    has_own_port: bool = False


DEFAULT, LEAN, THROUGHPUT = "Serve default", "lean", "throughput"
BY_VALUE, DIRECT = "by value", "lean, by value, own port"
PROFILES: dict[str, Profile] = {
    DEFAULT: Profile(),
    LEAN: Profile(LEAN_SERVE),
    BY_VALUE: Profile(by_value=True),
    DIRECT: Profile(LEAN_SERVE, by_value=True, has_own_port=True),
    THROUGHPUT: Profile(
        {
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        },
        by_value=True,
    ),
}
"""By name; `throughput` listens on every interface."""

NETWORK_OF_ITS_OWN = ("unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
ADDED_LIMIT_MS, CPU_LIMIT_MS, RATE_AIM = 10.0, 6.0, 250.0
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PipeLoad:
    """What is run.

    Attributes:
        requests: One after the other, in each round.
        rounds: Of each server, in turn.
        clients: That then ask at once.
        seconds: For how long they do.
        gateways: Replicas of the first stage under `throughput`; one elsewhere.
        body_bytes: Of a request.
    """

    requests: int = 100
    rounds: int = 3
    clients: int = 8
    seconds: float = 5.0
    gateways: int = 2
    body_bytes: int = 1000


@dataclass(frozen=True, slots=True)
class PipeCost:
    """One round of one server.

    Attributes:
        alone_ms: Median latency with one client.
        together_ms: Median latency with several.
        per_s: Requests per second with several.
        cpu_ms: CPU milliseconds of the server a request, with several.
    """

    alone_ms: float
    together_ms: float
    per_s: float
    cpu_ms: float


def run(load: PipeLoad, say: Say) -> Report:
    """Measure all profiles that this machine can run.

    The server of one process is measured beside each of the others, round by round. No two Rays run
    at once: an idle one takes a sixth of a core.
    """
    costs: dict[str, list[PipeCost]] = {ONE_PROCESS: []}
    with noop_server(ONE_PROCESS, load) as base:
        for name in PROFILES:
            if name == THROUGHPUT:
                continue
            say(f"starting {name}")
            with noop_server(name, load) as server:
                for number in range(load.rounds):
                    say(f"{name}, round {number + 1}")
                    costs[ONE_PROCESS].append(measure(base, load))
                    costs.setdefault(name, []).append(measure(server, load))
    notes = ["CPU: all processes of the server; the client, on the same machine, is left out."]
    missing = why_no_network()
    if missing is None:
        say(THROUGHPUT)
        given = asdict(load)
        with ServerProcess(
            THROUGHPUT, "benchmarks.servers.pipe_probe", given, prefix=NETWORK_OF_ITS_OWN
        ) as probe:
            costs[THROUGHPUT] = [PipeCost(**cost) for cost in probe.ready["costs"]]
    else:
        notes.append(f"The throughput profile was left out: {missing}.")
    return _report(load, costs, notes)


def noop_server(name: str, load: PipeLoad) -> ServerProcess:
    """Describe the server of a profile; entering it starts it."""
    is_throughput, profile = name == THROUGHPUT, PROFILES.get(name, Profile())
    gateways = load.gateways if is_throughput else int(name != ONE_PROCESS)
    host = ALL_INTERFACES if is_throughput else LOOPBACK
    return ServerProcess(
        name,
        "benchmarks.servers.noop",
        {
            "gateways": gateways,
            "host": host,
            "by_value": profile.by_value,
            "has_own_port": profile.has_own_port,
        },
        environment={**ENVIRONMENT, **profile.variables},
    )


def why_no_network() -> str | None:
    """Say why no network of its own can be made here, which `throughput` needs; None if it can."""
    if shutil.which("unshare") is None:
        return "there is no unshare here"
    tried = subprocess.run(
        [*NETWORK_OF_ITS_OWN, "true"], capture_output=True, timeout=TIMEOUT_S, check=False
    )
    if tried.returncode:
        return f"a network of its own cannot be made: {tried.stderr.decode().strip()}"
    return None


def measure(server: ServerProcess, load: PipeLoad) -> PipeCost:
    """Measure one server, with one client and with several.

    Raises:
        QZoomError: If it does not give the body back.
    """
    return asyncio.run(_measure(server, load))


async def _measure(server: ServerProcess, load: PipeLoad) -> PipeCost:
    body = {"text": "x" * load.body_bytes}
    limits = httpx.Limits(max_connections=load.clients)
    async with httpx.AsyncClient(
        base_url=server.ready["url"], timeout=TIMEOUT_S, limits=limits, trust_env=False
    ) as http:

        async def ask() -> float:
            began = time.perf_counter()
            response = await http.post("/pipe", json=body)
            if response.status_code != httpx.codes.OK or response.json() != body:
                raise QZoomError(f"{server.name} answers {response.status_code}")
            return time.perf_counter() - began

        await _several(ask, load.clients, seconds=0.5)
        alone = [await ask() for _ in range(load.requests)]
        cpu, began = cpu_s_of_tree(server.pid), time.perf_counter()
        together = await _several(ask, load.clients, load.seconds)
        lasted = time.perf_counter() - began
        spent = cpu_s_of_tree(server.pid) - cpu
    return PipeCost(
        alone_ms=1e3 * float(np.median(alone)),
        together_ms=1e3 * float(np.median(together)),
        per_s=len(together) / lasted,
        cpu_ms=1e3 * spent / len(together),
    )


async def _several(
    ask: Callable[[], Awaitable[float]], clients: int, seconds: float
) -> list[float]:
    taken: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < end:
            taken.append(await ask())

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return taken


def _report(
    load: PipeLoad, costs: Mapping[str, Sequence[PipeCost]], notes: Sequence[str]
) -> Report:
    fields = ("alone_ms", "together_ms", "per_s", "cpu_ms")
    spreads = {
        name: {field: spread([getattr(c, field) for c in found]) for field in fields}
        for name, found in costs.items()
    }
    base = spreads[ONE_PROCESS]["alone_ms"].median
    best = min((n for n in spreads if n != ONE_PROCESS), key=lambda n: spreads[n]["cpu_ms"].median)
    added = spreads[best]["alone_ms"].median - base
    return Report(
        bench="pipe",
        load=asdict(load),
        tables=[
            Rows(
                title=f"five stages that compute nothing, median (quartiles) of {load.rounds}",
                columns=(
                    "",
                    "ms, 1 client",
                    "added",
                    f"ms, {load.clients} clients",
                    "requests/s",
                    "CPU ms a request",
                ),
                rows=tuple(
                    (
                        name,
                        own["alone_ms"].text(1),
                        f"{own['alone_ms'].median - base:.1f}",
                        own["together_ms"].text(1),
                        own["per_s"].text(0),
                        own["cpu_ms"].text(1),
                    )
                    for name, own in spreads.items()
                ),
            )
        ],
        figures={
            name: {field: asdict(own[field]) for field in fields} for name, own in spreads.items()
        },
        plot=Plot(
            kind="bars",
            title="Five stages that compute nothing",
            x_label="",
            y_label="ms",
            x=tuple(spreads),
            series={
                "latency, 1 client": tuple(own["alone_ms"].median for own in spreads.values()),
                "CPU a request": tuple(own["cpu_ms"].median for own in spreads.values()),
            },
        ),
        targets=[
            Target(f"{best}: added ms with 1 client", added, ADDED_LIMIT_MS),
            Target(f"{best}: CPU ms a request", spreads[best]["cpu_ms"].median, CPU_LIMIT_MS),
            Target(f"{best}: requests/s", spreads[best]["per_s"].median, RATE_AIM, at_least=True),
        ],
        notes=notes,
    )
