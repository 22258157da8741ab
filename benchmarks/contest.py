"""Who answers more questions per second in time? Our system beside what people would use instead.

All servers run on this machine, in the same run, and are loaded in turn with the same arrivals. A
rival is given its best of three settings. The rate rises until a server answers less than half of
the requests in time; two further rates between narrow its best down.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.clients import Interface, Item, Sample
from benchmarks.load import Outcome, ask_all, drive
from benchmarks.questions import Method, mixed_items
from benchmarks.servers.launch import Endpoint, ServerProcess
from qzoom.errors import QZoomError

Say = Callable[[str], None]

OURS, OURS_GRPC = "qzoom REST", "qzoom gRPC"
GENERATE, INPROCESS, VLLM = "generate", "in-process", "vLLM"
LOST = 0.5
"""Attainment below which a higher rate is not tried."""

NARROWING = 2
TRIAL_RATE, TRIAL_S = 64.0, 4.0
"""Of the choice of a rival's setting: more than it can answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What is run.

    Attributes:
        rates: Requests per second, rising.
        seconds: For how long requests arrive at each rate.
        slo_s: Within which an answer must be complete.
        per_picture: Questions about each picture.
        methods: `qzoom` objects of the requests, in turn.
        threads: Cores that each contender may use, at its best of three settings.
        full_tokens: Budget of the plain rivals' pictures, in visual tokens.
        checked: Answers that are compared with the answers of an idle server.
        seed: Of the arrivals.
        vllm_python: Interpreter of an environment with vLLM; None leaves vLLM out.
        rivals: Which of them take part.
        settings: How many settings of each rival are tried; one trusts the first.
    """

    rates: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
    seconds: float = 8.0
    slo_s: float = 2.0
    per_picture: int = 1
    methods: tuple[Method, ...] = ({}, {}, {"route": "direct"}, {"route": "zoom"})
    threads: int = 2
    full_tokens: int = 324
    checked: int = 8
    seed: int = 0
    vllm_python: Path | None = None
    rivals: tuple[str, ...] = (GENERATE, INPROCESS, VLLM)
    settings: int = 3


@dataclass(frozen=True, slots=True)
class Contender:
    """A server under load.

    Attributes:
        endpoint: Where it is asked.
        interface: How.
        setting: Which of its settings won.
        is_ours: Whether an answer that depends on the load ends the bench, or is counted.
    """

    endpoint: Endpoint
    interface: Interface
    setting: str
    is_ours: bool = True

    @property
    def name(self) -> str:
        """In tables."""
        return self.endpoint.name


@contextmanager
def contenders(model: Path, plan: LoadPlan, say: Say) -> Iterator[list[Contender]]:
    """Start our system and its rivals, each rival at its best of three settings.

    Raises:
        Unavailable: If one does not start.
    """
    with ExitStack() as stack:
        found = []
        for name, module, all_settings in rivals(model, plan):
            if name not in plan.rivals:
                continue
            settings = dict(list(all_settings.items())[: plan.settings])
            setting = next(iter(settings))
            if len(settings) > 1:
                setting = choose(name, module, settings, plan, say)
            say(f"starting {name}")
            server = stack.enter_context(ServerProcess(name, module, settings[setting]))
            found.append(Contender(server.endpoint, "rest", setting, is_ours=False))
        say("starting qzoom")
        given = {"model": str(model), "threads": 1}
        ours = stack.enter_context(ServerProcess(OURS, "benchmarks.servers.ours", given))
        grpc = Endpoint(
            OURS_GRPC, ours.ready["url"], ours.ready["model"], ours.ready["grpc_target"]
        )
        found = [Contender(ours.endpoint, "rest", ""), Contender(grpc, "grpc", ""), *found]
        yield found


def rivals(model: Path, plan: LoadPlan) -> Iterator[tuple[str, str, dict[str, dict[str, Any]]]]:
    """Name the rivals, their modules, and three settings of each."""
    base = {"model": str(model), "threads": plan.threads}
    yield (
        GENERATE,
        "benchmarks.servers.generate",
        {
            f"batch {size}": {**base, "max_batch": size, "full_tokens": plan.full_tokens}
            for size in (1, 4, 8)
        },
    )
    yield (
        INPROCESS,
        "benchmarks.servers.inprocess",
        {
            "1 worker, all threads": {**base, "workers": 1},
            "1 worker, 1 thread": {**base, "threads": 1, "workers": 1},
            "a worker a core": {**base, "threads": 1, "workers": plan.threads},
        },
    )
    if plan.vllm_python is not None:
        vllm = {**base, "python": str(plan.vllm_python), "full_tokens": plan.full_tokens}
        yield (
            VLLM,
            "benchmarks.servers.vllm",
            {f"{n} sequences": {**vllm, "max_num_seqs": n} for n in (4, 16, 64)},
        )


def choose(
    name: str, module: str, settings: dict[str, dict[str, Any]], plan: LoadPlan, say: Say
) -> str:
    """Find the setting with which a rival answers most, in a short overload."""
    items = mixed_items(64, per_picture=plan.per_picture)
    best, most = "", -1.0
    for setting, given in settings.items():
        say(f"{name}: trying {setting}")
        with ServerProcess(name, module, given) as server:
            asyncio.run(ask_all(server.endpoint, items[:2]))
            trial = drive(
                server.endpoint,
                items,
                rate=TRIAL_RATE,
                seconds=TRIAL_S,
                seed=plan.seed,
                slo_s=plan.slo_s,
            )
            throughput = asyncio.run(trial).throughput
        if throughput > most:
            best, most = setting, throughput
    return best


def contest(found: Sequence[Contender], plan: LoadPlan, say: Say) -> dict[str, list[Outcome]]:
    """Load all contenders in turn at rising rates, and check their answers.

    Returns:
        outcomes: Of each contender by rate, in the order in which they were run.

    Raises:
        QZoomError: If an answer of ours under load differs from that of the idle server.
    """
    outcomes: dict[str, list[Outcome]] = {one.name: [] for one in found}
    running = list(found)
    for rate in plan.rates:
        for one in list(running):
            say(f"{one.name} at {rate:g}/s")
            outcome = run_once(one, plan, rate)
            outcomes[one.name].append(outcome)
            if outcome.attainment < LOST:
                running.remove(one)
        if not running:
            break
    for _ in range(NARROWING):
        for one in found:
            between = _between(outcomes[one.name])
            if between is not None:
                say(f"{one.name} at {between:.3g}/s")
                outcomes[one.name].append(run_once(one, plan, between))
    return outcomes


def run_once(one: Contender, plan: LoadPlan, rate: float) -> Outcome:
    """Load one contender at one rate with questions that no run before has asked.

    Raises:
        QZoomError: If an answer of ours differs from that of the idle server.
    """
    count = max(8, int(1.3 * rate * plan.seconds) + 8)
    items = mixed_items(count, per_picture=plan.per_picture, methods=plan.methods)

    async def go() -> Outcome:
        outcome = await drive(
            one.endpoint,
            items,
            rate=rate,
            seconds=plan.seconds,
            seed=plan.seed,
            slo_s=plan.slo_s,
            interface=one.interface,
        )
        return replace(outcome, num_changed=await _check(one, items, outcome, plan))

    return asyncio.run(go())


async def _check(one: Contender, items: list[Item], outcome: Outcome, plan: LoadPlan) -> int:
    """Ask some of the questions again, alone, and count the answers that are others."""
    rng = random.Random(plan.seed)
    # A zoom that failed under load gives the coarse answer, and says so.
    whole = [sample for sample in outcome.answered if not sample.extra.get("degraded")]
    chosen = rng.sample(whole, min(plan.checked, len(whole)))
    again = [asked_alike(items[sample.item], sample) for sample in chosen]
    alone = await ask_all(one.endpoint, again, one.interface)
    changed = [
        (under_load.text, idle.text)
        for under_load, idle in zip(chosen, alone, strict=True)
        if idle.error is None and under_load.text.strip() != idle.text.strip()
    ]
    if changed and one.is_ours:
        under_load, idle = changed[0]
        raise QZoomError(f"{one.name} answers {under_load!r} under load and {idle!r} alone")
    return len(changed)


def asked_alike(item: Item, answered: Sample) -> Item:
    """Ask in so many words for what brown-out chose, so that an idle server does the same."""
    if not answered.extra.get("brownout"):
        return item
    method = {**item.method, **answered.extra["budgets"]}
    if answered.extra.get("tau_gate") is not None:
        method["tau_gate"] = answered.extra["tau_gate"]
    return replace(item, method=method)


def best_of(outcomes: Sequence[Outcome]) -> Outcome:
    """The run with most answers in time per second."""
    return max(outcomes, key=lambda outcome: outcome.goodput)


def _between(outcomes: Sequence[Outcome]) -> float | None:
    """A rate between the best one and the next above it that was tried; None without one."""
    best = best_of(outcomes)
    above = sorted(outcome.rate for outcome in outcomes if outcome.rate > best.rate)
    return (best.rate * above[0]) ** 0.5 if above else None
