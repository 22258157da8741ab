"""What does each stage cost? Time, FLOPs, and the share of the machine's matmul peak.

Routes run interleaved: noise hits all alike. Any checkpoint will do, random weights included; for
the paper's sizes, which need no weights to be counted, the share of gate and RPN is worked out.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks.flops import DecoderSize, count
from benchmarks.measure import Cost, Spread, cost_of, spread
from benchmarks.models import use_threads
from benchmarks.report import Plot, Report, Rows, Target
from benchmarks.walk import STAGES, walk
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.model.images import Pixels
from qzoom.model.pipeline import Pipeline

Result = TypeVar("Result")

BRANCH_LIMIT = 0.15
"""Gate and RPN, of the decoder's layers, at the paper's size."""

PAPER_7B = DecoderSize(
    hidden=3584, intermediate=18944, heads=28, kv_heads=4, head_size=128, vocabulary=152064
)
PAPER_LAYERS, PAPER_DEPTH, PAPER_TOKENS, PAPER_VISUAL = 28, 3, 620, 576

PEAK_SIDE = 1024
PEAK_TRIES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class StagesLoad:
    """What is run.

    Attributes:
        rounds: Measurements of each route.
        batch: Equal requests that run together.
        answer_tokens: Tokens of each answer.
        full_tokens: Budget of the picture at full resolution, in visual tokens.
        threads: Of torch.
        tau_roi: Threshold of the RPN; low, so that a random model finds something, too.
    """

    rounds: int = 15
    batch: int = 1
    answer_tokens: int = 6
    full_tokens: int = 324
    threads: int = 1
    tau_roi: float = 0.02


class _Timer:
    """An `Observer` that keeps wall seconds."""

    def __init__(self) -> None:
        self.costs: dict[str, Cost] = {}

    def __call__(self, stage: str, work: Callable[[], Result], /) -> Result:
        held: list[Result] = []
        self.costs[stage] = cost_of(lambda: held.append(work()))
        return held[0]


class _Counter:
    """An `Observer` that keeps FLOPs."""

    def __init__(self) -> None:
        self.flops: dict[str, int] = {}

    def __call__(self, stage: str, work: Callable[[], Result], /) -> Result:
        held: list[Result] = []
        self.flops[stage] = count(lambda: held.append(work()))
        return held[0]


def matmul_peak(threads: int) -> float:
    """Measure what this machine makes of a large float32 product, in FLOP/s, the best of some."""
    use_threads(threads)
    one, other = torch.randn(2, PEAK_SIDE, PEAK_SIDE).unbind()
    best = float("inf")
    for _ in range(PEAK_TRIES):
        began = time.perf_counter()
        one @ other
        best = min(best, time.perf_counter() - began)
    return 2 * PEAK_SIDE**3 / best


def branch_share(tokens: int = PAPER_TOKENS, visual: int = PAPER_VISUAL) -> float:
    """FLOPs of gate and RPN, of those of the 28 layers of Qwen2.5-VL-7B over the coarse prompt."""
    layer = PAPER_7B.layer(tokens, tokens, tokens)
    last_of_gate = PAPER_7B.layer(1, tokens, tokens)
    branches = 2 * (PAPER_DEPTH - 1) * layer + last_of_gate + PAPER_7B.scoring(visual)
    return branches / (PAPER_LAYERS * layer)


def run(
    model: Path,
    picture: Pixels,
    question: str,
    load: StagesLoad,
    on_run: Callable[[str], None] = lambda _name: None,
) -> Report:
    """Measure all stages on both routes and at full resolution.

    Args:
        model: Checkpoint folder.
        picture: [H, W, 3] RGB, uint8.
        question: What every request asks.
        load: How much.
        on_run: Told the name of each case before it runs.

    Raises:
        QZoomError: If a route cannot be taken.
    """
    use_threads(load.threads)
    pipeline = Pipeline.open(model)
    cases = {
        "direct": Options(route="direct"),
        "zoom": Options(route="zoom", tau_roi=load.tau_roi),
        "full resolution": Options(route="direct", max_visual_tokens=load.full_tokens),
    }
    conversation = single_question(question)

    def go(options: Options, observe: _Timer | _Counter) -> None:
        walk(
            pipeline,
            picture,
            conversation,
            options,
            batch=load.batch,
            max_tokens=load.answer_tokens,
            observe=observe,
        )

    flops: dict[str, dict[str, int]] = {}
    for name, options in cases.items():
        counter = _Counter()
        go(options, counter)
        flops[name] = counter.flops
    found: dict[str, list[dict[str, Cost]]] = {name: [] for name in cases}
    for number in range(load.rounds + 1):
        for name, options in cases.items():
            on_run(name)
            timer = _Timer()
            go(options, timer)
            if number:
                found[name].append(timer.costs)
    return _report(model, load, flops, found, matmul_peak(load.threads))


def _report(
    model: Path,
    load: StagesLoad,
    flops: dict[str, dict[str, int]],
    found: dict[str, list[dict[str, Cost]]],
    peak: float,
) -> Report:
    names = tuple(found)
    times: dict[str, dict[str, Spread]] = {
        name: {
            stage: spread([costs[stage].wall_s for costs in runs]).scaled(1e3)
            for stage in STAGES
            if stage in flops[name]
        }
        | {"all": spread([sum(c.wall_s for c in costs.values()) for costs in runs]).scaled(1e3)}
        for name, runs in found.items()
    }
    work = {name: own | {"all": sum(own.values())} for name, own in flops.items()}
    shares = {
        name: {s: work[name][s] / (1e-3 * own[s].median) / peak for s in own}
        for name, own in times.items()
    }
    rows = [*STAGES, "all"]
    tables = [
        Rows(
            title=f"ms a batch of {load.batch}: median (quartiles) of {load.rounds}",
            columns=("stage", *names),
            rows=tuple(
                (s, *(times[n][s].text(1) if s in times[n] else "" for n in names)) for s in rows
            ),
        ),
        Rows(
            title=f"GFLOP, and the share of the matmul peak of {peak / 1e9:.0f} GFLOP/s",
            columns=("stage", *names),
            rows=tuple(
                (
                    s,
                    *(
                        f"{work[n][s] / 1e9:.3f}  {shares[n][s]:.0%}" if s in work[n] else ""
                        for n in names
                    ),
                )
                for s in rows
            ),
        ),
    ]
    share = branch_share()
    return Report(
        bench="stages",
        load={**asdict(load), "model": model.name},
        tables=tables,
        figures={
            "matmul_peak_flop_s": peak,
            "routes": {
                n: {
                    s: {
                        "ms": asdict(times[n][s]),
                        "flops": work[n][s],
                        "share_of_peak": shares[n][s],
                    }
                    for s in times[n]
                }
                for n in names
            },
            "gate_and_rpn_of_28_layers": share,
        },
        plot=Plot(
            kind="bars",
            title=f"Time of each stage, batch of {load.batch}",
            x_label="",
            y_label="ms",
            x=tuple(s.replace(".", "\n") for s in STAGES),
            series={
                n: tuple(times[n][s].median if s in times[n] else float("nan") for s in STAGES)
                for n in names
            },
        ),
        targets=[Target("gate + RPN, of 28 layers at B = 18, R = 3", share, BRANCH_LIMIT)],
    )
