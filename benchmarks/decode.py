"""How much does a token cost when many answers are written together? Tokens per second by batch."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.measure import spread
from benchmarks.models import use_threads
from benchmarks.report import Plot, Report, Rows, Target
from qzoom.contracts.conversation import single_question
from qzoom.errors import QZoomError
from qzoom.model.decoder import ResumeInput
from qzoom.model.images import Pixels
from qzoom.model.parameters import count_parameters
from qzoom.model.pipeline import Pipeline
from qzoom.model.prefill import PrefillInput
from qzoom.model.state import PrefillState

SPEEDUP_AT_32 = 10.0
BANDWIDTH_SHARE = 0.7
_COPY_BYTES = 256 * 2**20
_COPY_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLoad:
    """What is run.

    Attributes:
        batches: Answers that are written together.
        steps: Tokens of each answer.
        rounds: Measurements of each batch size.
        threads: Of torch.
        device: Where to run.
        dtype: Of weights and KV cache.
    """

    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    steps: int = 16
    rounds: int = 5
    threads: int = 1
    device: str = "cpu"
    dtype: str = "float32"


def run(
    model: Path,
    picture: Pixels,
    question: str,
    load: DecodeLoad,
    on_run: Callable[[str], None] = lambda _name: None,
) -> Report:
    """Measure decoding at every batch size, in turn.

    Args:
        model: Checkpoint folder.
        picture: [H, W, 3] RGB, uint8, that all answers are about.
        question: That all answer.
        load: How much.
        on_run: Told what runs.

    Raises:
        QZoomError: If an answer of a batch differs from the answer that is written alone.
    """
    use_threads(load.threads)
    pipeline = Pipeline.open(model, device=load.device, dtype=getattr(torch, load.dtype))
    state = _prefill(pipeline, picture, question)
    alone, _ = _decode(pipeline, state, 1, load.steps)
    seconds: dict[int, list[float]] = {batch: [] for batch in load.batches}
    for number in range(load.rounds + 1):
        for batch in load.batches:
            on_run(f"batch of {batch}")
            ids, step_s = _decode(pipeline, state, batch, load.steps)
            different = [row for row, own in enumerate(ids) if own != alone[0]]
            # In half precision the order of sums decides close calls.
            if different and load.dtype == "float32":
                raise QZoomError(f"at batch {batch}, {len(different)} answers differ from alone")
            if number:
                seconds[batch].append(step_s)
    return _report(model, pipeline, state, load, seconds)


def _prefill(pipeline: Pipeline, picture: Pixels, question: str) -> PrefillState:
    visual = pipeline.encoder.encode([pipeline.encoder.prepare_coarse(picture)])
    size_px = (picture.shape[1], picture.shape[0])
    prompt = pipeline.gate.tokenize(single_question(question), [visual[0].grid], [size_px])
    return pipeline.gate.run([PrefillInput(prompt, visual)])[0].state


def _decode(
    pipeline: Pipeline, state: PrefillState, batch: int, steps: int
) -> tuple[list[list[int]], float]:
    """Write `batch` equal answers; return them, and the seconds of one step on average."""
    decoder = pipeline.decoder
    cache = decoder.new_cache(batch, len(state.prompt.ids) + steps + 1)
    inputs = [ResumeInput(cache.alloc(), state) for _ in range(batch)]
    last = decoder.resume(cache, inputs).argmax(dim=-1).tolist()
    slots = [item.slot for item in inputs]
    drawn = [last]
    began = time.perf_counter()
    for _ in range(steps):
        # Reading the ids waits for the device.
        drawn.append(last := decoder.step(cache, slots, last).argmax(dim=-1).tolist())
    step_s = (time.perf_counter() - began) / steps
    return [list(ids) for ids in zip(*drawn, strict=True)], step_s


def _bandwidth(device: str) -> float:
    """Measure what reading and writing memory reaches, in bytes per second, the best of some."""
    source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(_COPY_TRIES):
        began = time.perf_counter()
        target.copy_(source)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * _COPY_BYTES / best


def _report(
    model: Path,
    pipeline: Pipeline,
    state: PrefillState,
    load: DecodeLoad,
    seconds: dict[int, list[float]],
) -> Report:
    rates = {n: spread([n / step_s for step_s in values]) for n, values in seconds.items()}
    steps = {n: spread(values).scaled(1e3) for n, values in seconds.items()}
    first = min(rates)
    weights = count_parameters(pipeline.decoder) * pipeline.decoder.head.weight.element_size()
    bandwidth = _bandwidth(load.device)
    share = weights / seconds_of(seconds[first]) / bandwidth
    targets = []
    if first == 1 and 32 in rates:
        gain = rates[32].median / rates[1].median
        targets.append(Target("tokens/s at 32, of 1", gain, SPEEDUP_AT_32, at_least=True))
    if load.device == "cuda":
        targets.append(
            Target("share of memory bandwidth at 1", share, BANDWIDTH_SHARE, at_least=True)
        )
    return Report(
        bench="decode",
        load={**asdict(load), "model": model.name, "prompt_tokens": len(state.prompt.ids)},
        tables=[
            Rows(
                title=f"decoding, median (quartiles) of {load.rounds}",
                columns=("batch", "ms a step", "tokens/s", f"times batch {first}"),
                rows=tuple(
                    (
                        str(n),
                        steps[n].text(2),
                        rates[n].text(0),
                        f"{rates[n].median / rates[first].median:.1f}",
                    )
                    for n in rates
                ),
            )
        ],
        figures={
            "tokens_per_s": {str(n): asdict(rate) for n, rate in rates.items()},
            "step_ms": {str(n): asdict(step) for n, step in steps.items()},
            "weight_bytes": weights,
            "memory_bytes_per_s": bandwidth,
            "share_of_bandwidth_at_smallest_batch": share,
        },
        plot=Plot(
            kind="lines",
            title="Decoding: tokens per second by batch size",
            x_label="answers written together",
            y_label="tokens/s",
            x=tuple(float(n) for n in rates),
            series={
                "measured": tuple(rate.median for rate in rates.values()),
                "cost of a step constant": tuple(rates[first].median * n / first for n in rates),
            },
            log="xy",
        ),
        targets=targets,
        notes=["Every answer of every batch equals the answer that is written alone."]
        if load.dtype == "float32"
        else [],
    )


def seconds_of(values: Sequence[float]) -> float:
    """Median of some seconds."""
    return spread(values).median
