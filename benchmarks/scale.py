"""How far does the system scale? A simulation from measured stage times, held against real runs.

The cost of each stage is measured in one process by batch size; what a request costs beside the
stages is measured on the running system with one client. Both go into a model of queues that share
cores, which must then foretell the throughput with many clients, at one replica and at two.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.capacity import Assumptions, capacity_rows, gpu_seconds, network_bytes
from benchmarks.closed import run_closed
from benchmarks.contest import OURS, Say
from benchmarks.measure import cost_of
from benchmarks.models import use_threads
from benchmarks.questions import Method, mixed_items
from benchmarks.report import Plot, Report, Rows, Target
from benchmarks.servers.launch import ServerProcess
from benchmarks.servers.processes import cpu_s_of_tree
from benchmarks.simulate import Model, Simulation, StageCost
from benchmarks.walk import walk
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.data.dataset import example
from qzoom.errors import QZoomError
from qzoom.model.images import Pixels
from qzoom.model.pipeline import Pipeline

Result = TypeVar("Result")

AGREEMENT = 0.25
SERVICES = {
    "encoder.coarse": "encoder",
    "gate.prefill": "gate",
    "rpn.propose": "rpn",
    "encoder.roi": "encoder",
}
DIRECT = ("encoder.coarse", "gate.prefill")
ZOOM = ("encoder.coarse", "gate.prefill", "rpn.propose", "encoder.roi")
TAU_ROI = 0.02
METHODS: tuple[Method, ...] = (
    {"route": "direct"},
    {"route": "direct"},
    {"route": "zoom", "tau_roi": TAU_ROI},
)
ZOOM_SHARE = 1 / 3
QUESTION = "What is the code on the icon in the top left?"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleLoad:
    """What is run.

    Attributes:
        batches: Sizes at which stages are timed.
        rounds: Measurements of each.
        answer_tokens: Most tokens of each answer.
        clients: Requests in flight in the real runs.
        requests: Of each real run.
        most_replicas: Of the simulation.
        cores: Of the simulated larger machine.
    """

    batches: tuple[int, ...] = (1, 2, 4, 8)
    rounds: int = 3
    answer_tokens: int = 6
    clients: int = 8
    requests: int = 120
    most_replicas: int = 4
    cores: int = 64


def run(model: Path, load: ScaleLoad, say: Say) -> Report:
    """Measure, simulate and compare.

    Raises:
        QZoomError: If a request of a real run fails.
    """
    use_threads(1)
    costs = _stage_costs(model, load, say)
    cores = len(os.sched_getaffinity(0))
    found: dict[int, tuple[float, float]] = {}
    answers: dict[int, str] = {}
    queues: Model | None = None
    for replicas in (1, 2):
        say(f"the real system, {replicas} replicas")
        given = {
            "model": str(model),
            "threads": 1,
            "replicas": dict.fromkeys(("encoder", "gate", "rpn", "llm"), replicas),
            # The simulation knows of no brown-out.
            "gateway": {"brownout_steps": 0, "admit_requests": 2 * load.clients},
        }
        with ServerProcess(OURS, "benchmarks.servers.ours", given) as server:
            if queues is None:
                overhead, tokens = _overhead(server, costs, load)
                queues = _model(costs, tokens, overhead)
            real = _real(server, load, answers)
        foretold = _simulate(queues, load, dict.fromkeys(SERVICES.values(), replicas), cores)
        found[replicas] = (real, foretold)
    assert queues is not None
    return _report(model, load, queues, cores, found)


def _stage_costs(model: Path, load: ScaleLoad, say: Say) -> dict[str, StageCost]:
    pipeline = Pipeline.open(model)
    picture: Pixels = np.asarray(example("test", 0, 0)[1].convert("RGB"))
    seconds: dict[str, dict[int, list[float]]] = {}

    class Timer:
        """Keeps CPU seconds of each stage at the batch size of the walk."""

        batch = 1

        def __call__(self, stage: str, work: Callable[[], Result], /) -> Result:
            held: list[Result] = []
            cost = cost_of(lambda: held.append(work()))
            seconds.setdefault(stage, {}).setdefault(self.batch, []).append(cost.cpu_s)
            return held[0]

    timer = Timer()
    for number in range(load.rounds + 1):
        for timer.batch in load.batches:
            say(f"stages at batch {timer.batch}")
            walk(
                pipeline,
                picture,
                single_question(QUESTION),
                Options(route="zoom", tau_roi=TAU_ROI),
                batch=timer.batch,
                max_tokens=load.answer_tokens,
                observe=timer,
            )
        if number == 0:
            seconds.clear()
    median = {
        stage: {batch: float(np.median(values)) for batch, values in by_batch.items()}
        for stage, by_batch in seconds.items()
    }
    steps = load.answer_tokens - 1
    median["llm.decode"] = {n: value / steps for n, value in median["llm.decode"].items()}
    return {stage: StageCost.fit(by_batch) for stage, by_batch in median.items()}


def _overhead(
    server: ServerProcess, costs: Mapping[str, StageCost], load: ScaleLoad
) -> tuple[float, float]:
    """CPU seconds of a request beside its stages, with one client; and tokens of an answer."""
    count = 24
    items = mixed_items(count + 3, per_picture=1, methods=METHODS, max_tokens=load.answer_tokens)
    asyncio.run(run_closed(server.endpoint, items[:3], clients=1))
    before = cpu_s_of_tree(server.pid)
    closed = asyncio.run(run_closed(server.endpoint, items[3:], clients=1))
    spent = cpu_s_of_tree(server.pid) - before + closed.client_cpu_s
    tokens = float(np.mean([sample.num_pieces for sample in closed.samples])) + 1
    direct = sum(costs[s].of(1) for s in (*DIRECT, "llm.resume"))
    zoom = sum(costs[s].of(1) for s in (*ZOOM, "llm.resume"))
    stages = direct + ZOOM_SHARE * (zoom - direct) + (tokens - 1) * costs["llm.decode"].of(1)
    return max(0.0, spent / count - stages), tokens


def _model(costs: Mapping[str, StageCost], tokens: float, overhead_s: float) -> Model:
    return Model(
        services=SERVICES,
        costs=costs,
        direct=DIRECT,
        zoom=ZOOM,
        zoom_share=ZOOM_SHARE,
        answer_tokens=max(2, round(tokens)),
        overhead_s=overhead_s,
    )


def _real(server: ServerProcess, load: ScaleLoad, answers: dict[int, str]) -> float:
    """Answers per second; compares them with `answers` by question, or fills these in."""
    warm = mixed_items(load.clients, per_picture=1, methods=METHODS)
    asyncio.run(run_closed(server.endpoint, warm, clients=load.clients))
    items = mixed_items(
        load.requests + load.clients,
        per_picture=1,
        methods=METHODS,
        max_tokens=load.answer_tokens,
    )
    closed = asyncio.run(run_closed(server.endpoint, items[load.clients :], clients=load.clients))
    if closed.errors:
        raise QZoomError(f"{len(closed.errors)} requests failed: {closed.errors[0]}")
    for sample in closed.samples:
        before = answers.setdefault(sample.item, sample.text)
        if before != sample.text:
            raise QZoomError(f"{before!r} with one replica each, {sample.text!r} with two")
    return closed.throughput


def _simulate(
    queues: Model, load: ScaleLoad, replicas: Mapping[str, int], cores: int, clients: int = 0
) -> float:
    return Simulation(
        queues,
        replicas={"llm": max(replicas.values()), **replicas},
        cores=cores,
        clients=clients or load.clients,
        requests=600,
    ).run()


def _report(
    model: Path,
    load: ScaleLoad,
    queues: Model,
    cores: int,
    found: Mapping[int, tuple[float, float]],
) -> Report:
    sizes = range(1, load.most_replicas + 1)
    names = ("encoder", "gate", "rpn", "llm")
    here, large = [], []
    for size in sizes:
        all_equal = dict.fromkeys(names, size)
        # Enough clients that no queue runs dry.
        here.append(_simulate(queues, load, all_equal, cores, clients=16 * size))
        large.append(_simulate(queues, load, all_equal, load.cores, clients=16 * size))
    alone = {
        name: _simulate(queues, load, {**dict.fromkeys(names, 1), name: 2}, load.cores, clients=32)
        for name in names
    }
    differences = {n: abs(foretold / real - 1) for n, (real, foretold) in found.items()}
    return Report(
        bench="scale",
        load={**asdict(load), "model": model.name, "machine_cores": cores},
        tables=[
            Rows(
                title=f"requests/s with {load.clients} clients on {cores} cores",
                columns=("replicas of each", "real", "simulated", "difference"),
                rows=tuple(
                    (str(n), f"{real:.2f}", f"{told:.2f}", f"{differences[n]:.0%}")
                    for n, (real, told) in found.items()
                ),
            ),
            Rows(
                title="simulated requests/s",
                columns=("replicas of each", f"{cores} cores", f"{load.cores} cores"),
                rows=tuple(
                    (str(n), f"{a:.1f}", f"{b:.1f}")
                    for n, a, b in zip(sizes, here, large, strict=True)
                ),
            ),
            Rows(
                title=f"simulated requests/s on {load.cores} cores, one service twice",
                columns=("of", "requests/s"),
                rows=tuple((name, f"{rate:.1f}") for name, rate in alone.items()),
            ),
            Rows(
                title="CPU ms that the simulation is made of",
                columns=("stage", "a batch", "and each request"),
                rows=(
                    *(
                        (stage, f"{1e3 * cost.fixed:.2f}", f"{1e3 * cost.each:.2f}")
                        for stage, cost in queues.costs.items()
                    ),
                    ("beside the stages", "", f"{1e3 * queues.overhead_s:.2f}"),
                ),
            ),
            capacity_rows(Assumptions()),
        ],
        figures={
            "real_and_simulated_per_s": {str(n): pair for n, pair in found.items()},
            "simulated_per_s": {f"{cores} cores": here, f"{load.cores} cores": large},
            "second_replica_of_one_per_s": alone,
            "stage_cpu_s": {stage: asdict(cost) for stage, cost in queues.costs.items()},
            "overhead_cpu_s": queues.overhead_s,
            "capacity_7b": {
                "assumptions": asdict(Assumptions()),
                "gpu_s_a_request": gpu_seconds(Assumptions()),
                "network_bytes_a_request": network_bytes(Assumptions()),
            },
        },
        plot=Plot(
            kind="lines",
            title="Simulated throughput by replicas of each service",
            x_label="replicas of each service",
            y_label="requests/s",
            x=tuple(float(n) for n in sizes),
            series={
                f"{cores} cores": tuple(here),
                f"{load.cores} cores": tuple(large),
                f"real, {cores} cores, {load.clients} clients": tuple(
                    found[n][0] if n in found else float("nan") for n in sizes
                ),
            },
        ),
        targets=[
            Target(f"simulation against run, {n} replicas", differences[n], AGREEMENT)
            for n in found
        ],
        notes=["Every question got the same answer from one replica of each and from two."],
    )
