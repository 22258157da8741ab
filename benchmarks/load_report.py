"""What did the load show? Throughput in time, latencies, and who is ahead by how much."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.contest import (
    GENERATE,
    INPROCESS,
    OURS,
    VLLM,
    Contender,
    LoadPlan,
    Say,
    best_of,
    contenders,
    contest,
    run_once,
)
from benchmarks.load import Outcome, ask_all
from benchmarks.questions import mixed_items
from benchmarks.report import Plot, Report, Rows, Target

UNLOADED_REQUESTS = 20
WORKING_POINT = 0.7
TAIL_LIMIT = 3.0
LIMITS = {GENERATE: 3.0, INPROCESS: 1.1, VLLM: 2.0}
LIMIT_WITH_REUSE = {INPROCESS: 2.5}
_MEASURES = ("ttft_s", "tpot_s", "total_s")


def run(model: Path, plan: LoadPlan, say: Say, name: str = "load") -> Report:
    """Compare our system with its rivals.

    Args:
        model: Checkpoint folder.
        plan: What is run.
        say: Told what runs.
        name: Of the result's files.

    Raises:
        QZoomError: If a server does not start, or an answer under load differs from one alone.
    """
    with contenders(model, plan, say) as found:
        outcomes = contest(found, plan, say)
        ours = next(one for one in found if one.name == OURS)
        best = best_of(outcomes[OURS]).goodput
        say(f"{OURS}: idle, and at {WORKING_POINT:.0%} of its best")
        idle = _idle(ours, plan)
        working = run_once(ours, plan, WORKING_POINT * best)
    return _report(name, model, plan, found, outcomes, idle, working)


def run_against(found: Sequence[Contender], plan: LoadPlan, say: Say) -> Report:
    """Load servers that somebody else started, such as one behind `--url`."""
    outcomes = contest(found, plan, say)
    return Report(
        bench="load",
        load=_load(plan, found),
        tables=[_table(outcomes, plan)],
        figures=_figures(outcomes),
        plot=_plot(outcomes, plan),
        notes=_notes(plan, outcomes),
    )


def _idle(one: Contender, plan: LoadPlan) -> Outcome:
    items = mixed_items(UNLOADED_REQUESTS, per_picture=plan.per_picture, methods=plan.methods)
    samples = asyncio.run(ask_all(one.endpoint, items, one.interface))
    return Outcome(
        server=one.name,
        interface=one.interface,
        rate=0.0,
        seconds=sum(sample.total_s for sample in samples),
        samples=samples,
        items=items,
        slo_s=plan.slo_s,
    )


def _report(
    name: str,
    model: Path,
    plan: LoadPlan,
    found: Sequence[Contender],
    outcomes: Mapping[str, Sequence[Outcome]],
    idle: Outcome,
    working: Outcome,
) -> Report:
    limits = LIMITS | (LIMIT_WITH_REUSE if plan.per_picture >= 8 else {})
    best = {server: best_of(runs).goodput for server, runs in outcomes.items()}
    targets = [
        Target(f"answers/s in time, of {rival}", best[OURS] / best[rival], limit, at_least=True)
        for rival, limit in limits.items()
        if best.get(rival)
    ]
    tail, quiet = working.quantile_ms("ttft_s", 0.99), idle.quantile_ms("ttft_s", 0.99)
    if tail is not None and quiet is not None:
        what = f"p99 TTFT at {WORKING_POINT:.0%} load, of idle"
        targets.append(Target(what, tail / quiet, TAIL_LIMIT))
    notes = _notes(plan, outcomes)
    if plan.vllm_python is None:
        notes.append("vLLM was left out: no environment with it was named (--vllm-python).")
    return Report(
        bench=name,
        load={**_load(plan, found), "model": model.name},
        tables=[_table(outcomes, plan), _working_table(idle, working)],
        figures=_figures(outcomes)
        | {"idle": _latencies(idle), "at_70_percent": _latencies(working)},
        plot=_plot(outcomes, plan),
        targets=targets,
        notes=notes,
    )


def _load(plan: LoadPlan, found: Sequence[Contender]) -> dict[str, Any]:
    return {
        **{k: v for k, v in asdict(plan).items() if k != "vllm_python"},
        "settings": {one.name: one.setting for one in found if one.setting},
        "arrivals": "open loop, Poisson",
    }


def _notes(plan: LoadPlan, outcomes: Mapping[str, Sequence[Outcome]]) -> list[str]:
    changed = {server: sum(o.num_changed for o in runs) for server, runs in outcomes.items()}
    others = ", ".join(
        f"{count} of {server} were others" for server, count in changed.items() if count
    )
    return [
        f"In time: complete within {plan.slo_s:g} s of the sending. The client runs on the same "
        "machine; reading and resizing the picture is part of every time.",
        f"At every rate, {plan.checked} answers were asked for again alone: "
        f"{others or 'they were the same'}.",
    ]


def _table(outcomes: Mapping[str, Sequence[Outcome]], plan: LoadPlan) -> Rows:
    rows = []
    for server, runs in outcomes.items():
        best = best_of(runs)
        for outcome in sorted(runs, key=lambda o: o.rate):
            mark = " *" if outcome is best else ""
            rows.append(
                (
                    f"{server}{mark}",
                    f"{outcome.rate:.3g}",
                    f"{outcome.throughput:.2f}",
                    f"{outcome.goodput:.2f}",
                    f"{outcome.attainment:.0%}",
                    *(_cell(outcome, "ttft_s", q) for q in (0.5, 0.95, 0.99)),
                    _cell(outcome, "tpot_s", 0.5),
                    _cell(outcome, "total_s", 0.99),
                    "" if (right := outcome.share_right) is None else f"{right:.2f}",
                    ", ".join(f"{n} {what}" for what, n in outcome.errors.items()),
                )
            )
    return Rows(
        title=f"{plan.per_picture} questions a picture, SLO {plan.slo_s:g} s; ms; * the best",
        columns=(
            "server",
            "arrive/s",
            "answers/s",
            "in time/s",
            "in time",
            "TTFT p50",
            "p95",
            "p99",
            "TPOT p50",
            "all p99",
            "right",
            "errors",
        ),
        rows=tuple(rows),
    )


def _working_table(idle: Outcome, working: Outcome) -> Rows:
    rows = [
        (label, *(_cell(outcome, which, q) for which in _MEASURES for q in (0.5, 0.99)))
        for label, outcome in (("idle", idle), (f"{working.rate:.3g}/s", working))
    ]
    columns = ("", *(f"{w} {q}" for w in ("TTFT", "TPOT", "all") for q in ("p50", "p99")))
    return Rows(
        f"{idle.server}, idle and at {WORKING_POINT:.0%} of its best, ms", columns, tuple(rows)
    )


def _cell(outcome: Outcome, which: str, q: float) -> str:
    value = outcome.quantile_ms(which, q)
    return "" if value is None else f"{value:.0f}"


def _latencies(outcome: Outcome) -> dict[str, Any]:
    quantiles = (0.5, 0.95, 0.99)
    return {
        f"{which.removesuffix('_s')}_ms": {
            f"p{q * 100:g}": outcome.quantile_ms(which, q) for q in quantiles
        }
        for which in _MEASURES
    }


def _figures(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    return {
        server: {
            "best_in_time_per_s": best_of(runs).goodput,
            "rates": [
                {
                    "arrivals_per_s": outcome.rate,
                    "answers_per_s": outcome.throughput,
                    "in_time_per_s": outcome.goodput,
                    "share_in_time": outcome.attainment,
                    "share_right": outcome.share_right,
                    "requests": len(outcome.samples),
                    "errors": outcome.errors,
                    "changed_alone": outcome.num_changed,
                    **_latencies(outcome),
                }
                for outcome in sorted(runs, key=lambda o: o.rate)
            ],
        }
        for server, runs in outcomes.items()
    }


def _plot(outcomes: Mapping[str, Sequence[Outcome]], plan: LoadPlan) -> Plot:
    rates = sorted({o.rate for runs in outcomes.values() for o in runs})
    return Plot(
        kind="lines",
        title=f"Answers in time, {plan.per_picture} questions a picture, SLO {plan.slo_s:g} s",
        x_label="requests per second that arrive",
        y_label="answers per second within the SLO",
        x=tuple(rates),
        series={
            server: tuple(
                next((o.goodput for o in runs if o.rate == rate), float("nan")) for rate in rates
            )
            for server, runs in outcomes.items()
        },
        log="x",
    )
