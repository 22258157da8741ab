"""Benches that start servers: our system, and what people would use instead."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cli.bench_output import finish, progress
from cli.console import Failure

Out = Annotated[Path | None, typer.Option("--out", help="Folder for JSON and plot.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="A table within two minutes, rougher; for a first look.")
]
QUICK_RATES, QUICK_S = (4.0, 12.0, 24.0), 3.0
Model = Annotated[
    Path | None, typer.Option(help="Checkpoint folder; the built-in model if not given.")
]


def load(
    *,
    url: Annotated[
        str | None, typer.Option(help="Load this server alone, any OpenAI-compatible one.")
    ] = None,
    model_name: Annotated[str, typer.Option(help="With --url: model's name there.")] = "builtin",
    model: Model = None,
    rates: Annotated[
        str, typer.Option(help="Requests per second, rising, with commas between.")
    ] = "2,4,8,16,32,64,128",
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of each run.")] = 8.0,
    slo: Annotated[float, typer.Option(min=0.01, help="Seconds that an answer may take.")] = 2.0,
    per_picture: Annotated[int, typer.Option(min=1, help="Questions about each picture.")] = 1,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Cores of each rival.")] = 2,
    vllm_python: Annotated[
        Path | None, typer.Option(help="Interpreter of an environment with vLLM.")
    ] = None,
    rivals: Annotated[
        str, typer.Option(help="Who takes part beside us, with commas between.")
    ] = "generate,in-process,vLLM",
    settings: Annotated[int, typer.Option(min=1, max=3, help="Tried of each rival.")] = 3,
    quick: Quick = False,
    name: Annotated[str, typer.Option(help="Of the result's files.")] = "load",
    folder: Out = None,
) -> None:
    """Open-loop load on our system and its rivals, at rising rates, over REST and gRPC."""
    from benchmarks.contest import Contender, LoadPlan
    from benchmarks.load_report import run, run_against
    from benchmarks.servers.launch import Endpoint
    from qzoom.builtin import builtin_model

    plan = LoadPlan(
        rates=_rates(rates),
        seconds=seconds,
        slo_s=slo,
        per_picture=per_picture,
        threads=threads,
        vllm_python=vllm_python,
        rivals=tuple(rivals.split(",")),
        settings=settings,
    )
    if quick:
        plan = replace(plan, rates=QUICK_RATES, seconds=QUICK_S, settings=1)
    with progress() as say:
        if url is None:
            report = run(model or builtin_model(), plan, say, name)
        else:
            theirs = Contender(
                Endpoint(url, url.rstrip("/"), model_name), "rest", "", is_ours=False
            )
            report = run_against([theirs], replace(plan, methods=({},)), say)
    finish(report, folder)
    for server, figures in report.figures.items():
        if not any(rate["answers_per_s"] for rate in figures.get("rates", [{"answers_per_s": 1}])):
            errors = ", ".join(sorted({e for rate in figures["rates"] for e in rate["errors"]}))
            raise Failure(f"{server} answered nothing: {errors}", 1)


def _rates(text: str) -> tuple[float, ...]:
    try:
        rates = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise Failure(f"--rates {text}: must be numbers with commas between") from None
    if not rates or min(rates) <= 0 or max(rates) > 10_000:
        raise Failure(f"--rates {text}: each must be above 0 and at most 10000")
    return tuple(sorted(rates))


def pipe(
    rounds: Annotated[int, typer.Option(min=2, max=100, help="Of each server, in turn.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of several clients, a round.")] = 5.0,
    quick: Quick = False,
    folder: Out = None,
) -> None:
    """Five stages that compute nothing: what Ray Serve itself costs, by profile."""
    from benchmarks.pipe import PipeLoad, run

    plan = PipeLoad(rounds=rounds, seconds=seconds)
    if quick:
        plan = replace(plan, rounds=2, seconds=2.0, requests=40)
    with progress() as say:
        report = run(plan, say)
    finish(report, folder)


def handoff(
    rounds: Annotated[int, typer.Option(min=2, max=10_000, help="Measurements a size.")] = 30,
    folder: Out = None,
) -> None:
    """State from gate to llm through the object store, against a copy of as many bytes."""
    from benchmarks.handoff import HandoffLoad, run

    with progress() as say:
        report = run(HandoffLoad(rounds=rounds), say)
    finish(report, folder)


def reuse(
    model: Model = None,
    pictures: Annotated[int, typer.Option(min=2, max=1000, help="New pictures a case.")] = 8,
    quick: Quick = False,
    folder: Out = None,
) -> None:
    """Time to the first token of questions 2..8 about a picture, against the first."""
    from benchmarks.reuse import ReuseLoad, run
    from qzoom.builtin import builtin_model

    plan = ReuseLoad(pictures=3 if quick else pictures)
    with progress() as say:
        report = run(model or builtin_model(), plan, say)
    finish(report, folder)


def memory(
    model: Model = None,
    requests: Annotated[int, typer.Option(min=20, max=10_000_000, help="How many.")] = 400,
    clients: Annotated[int, typer.Option(min=1, max=256, help="Requests in flight.")] = 4,
    quick: Quick = False,
    folder: Out = None,
) -> None:
    """Memory of every service and of the object store: idle, under load, afterwards."""
    from benchmarks.memory import MemoryLoad, run
    from qzoom.builtin import builtin_model

    requests = 200 if quick else requests
    plan = MemoryLoad(requests=requests, warm=min(100, requests // 4), clients=clients)
    with progress() as say:
        report = run(model or builtin_model(), plan, say)
    finish(report, folder)


def scale(
    model: Model = None,
    requests: Annotated[int, typer.Option(min=16, max=100_000, help="Of a real run.")] = 120,
    clients: Annotated[int, typer.Option(min=1, max=256, help="Requests in flight.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Timings of a stage.")] = 3,
    quick: Quick = False,
    folder: Out = None,
) -> None:
    """Throughput by replicas: a simulation from stage times, and real runs beside it."""
    from benchmarks.scale import ScaleLoad, run
    from qzoom.builtin import builtin_model

    plan = ScaleLoad(requests=60 if quick else requests, clients=clients, rounds=rounds)
    with progress() as say:
        report = run(model or builtin_model(), plan, say)
    finish(report, folder)


def overload(
    url: Annotated[
        str | None,
        typer.Option(help="Server to ask, on this machine; one of our own if not given."),
    ] = None,
    model_name: Annotated[str, typer.Option(help="With --url: model's name there.")] = "builtin",
    model: Model = None,
    times: Annotated[float, typer.Option(min=1, max=100, help="Times the saturation.")] = 5.0,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Length of each run.")] = 10.0,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Saturation and overload.")] = 2,
    quick: Quick = False,
    folder: Out = None,
) -> None:
    """Give a server several times the load that fits."""
    from benchmarks.contest import OURS
    from benchmarks.overload import OverloadLoad, run_with
    from benchmarks.servers.launch import Endpoint, ServerProcess
    from qzoom.builtin import builtin_model

    plan = OverloadLoad("", times=times, seconds=seconds, rounds=rounds)
    if quick:
        plan = replace(plan, seconds=4.0, clients=(2, 4, 8))
    with ExitStack() as stack, progress() as say:
        if url is None:
            say("starting qzoom")
            given = {"model": str(model or builtin_model()), "threads": 1}
            server = stack.enter_context(ServerProcess(OURS, "benchmarks.servers.ours", given))
            endpoint = server.endpoint
        else:
            endpoint = Endpoint(url, url.rstrip("/"), model_name)
        report = run_with(endpoint, plan, say)
    finish(report, folder)
