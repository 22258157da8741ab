"""Does the method cost what it must? Both routes against transformers' plain model.

One process, one thread, CPU seconds; the plain model reads the same coarse picture. FLOPs are
counted and compared with the least that the method needs.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.flops import MethodSize, count
from benchmarks.measure import Cost, interleave, ratios, spread
from benchmarks.models import (
    METHOD_BOX_CELLS,
    METHOD_BOX_PX,
    METHOD_BUDGET,
    METHOD_SIDE_PX,
    METHOD_SIZE,
    FixedRegion,
    block_picture,
    method_size,
    use_threads,
)
from benchmarks.plain import PlainModel
from benchmarks.report import Plot, Report, Rows, Target
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.errors import QZoomError
from qzoom.model.loading import open_checkpoint
from qzoom.model.pipeline import Answer, Pipeline
from qzoom.model.random_checkpoint import write_random_checkpoint

QUESTION = "What is the code on the red sign?"
DIRECT_LIMIT, ZOOM_LIMIT, FLOP_LIMIT = 1.08, 2.2, 1.05
PLAIN, DIRECT, ZOOM = "plain", "direct", "zoom"


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodLoad:
    """What is run.

    Attributes:
        rounds: Measurements of each case.
        answer_tokens: Most tokens of each answer.
        threads: Of torch.
        seed: Of the weights.
    """

    rounds: int = 15
    answer_tokens: int = 8
    threads: int = 1
    seed: int = 0


def run(load: MethodLoad, on_run: Callable[[str], None] = lambda _name: None) -> Report:
    """Measure plain, direct and zoom.

    Raises:
        QZoomError: If the direct route does not answer token for token as the plain model.
    """
    use_threads(load.threads)
    with tempfile.TemporaryDirectory(prefix="qzoom-bench-") as folder:
        path = Path(folder)
        write_random_checkpoint(
            path, "qwen2_5_vl", size=METHOD_SIZE, seed=load.seed, **METHOD_BUDGET
        )
        pipeline = _pipeline(path)
        plain = PlainModel(path, pipeline)
        return _measure(pipeline, plain, load, on_run)


def _pipeline(path: Path) -> Pipeline:
    whole = Pipeline.open(path)
    rpn = FixedRegion.load(open_checkpoint(path))
    rpn.box = (METHOD_BOX_CELLS, METHOD_BOX_PX)
    return Pipeline(whole.checkpoint, whole.encoder, whole.gate, rpn, whole.decoder)


def _measure(
    pipeline: Pipeline, plain: PlainModel, load: MethodLoad, on_run: Callable[[str], None]
) -> Report:
    picture = block_picture(METHOD_SIDE_PX, METHOD_SIDE_PX)
    conversation = single_question(QUESTION)
    sampling = Sampling(max_tokens=load.answer_tokens)

    def ask(tau_gate: float) -> Answer:
        options = Options(tau_gate=tau_gate)
        return pipeline.answer(conversation, [picture], options, sampling)

    cases: dict[str, Callable[[], object]] = {
        PLAIN: lambda: plain.answer(conversation, picture, max_tokens=load.answer_tokens),
        DIRECT: lambda: ask(1.0),
        ZOOM: lambda: ask(0.0),
    }
    direct, zoom = ask(1.0), ask(0.0)
    expected = plain.answer(conversation, picture, max_tokens=load.answer_tokens)
    if direct.ids != expected:
        raise QZoomError(f"direct answers {direct.ids}, the plain model {expected}")
    if (direct.route, zoom.route) != (DIRECT, ZOOM):
        raise QZoomError(f"the routes were {direct.route} and {zoom.route}")

    flops = {name: count(work) for name, work in cases.items()}
    least = {
        DIRECT: sum(_size(pipeline, direct).direct().values()),
        ZOOM: _least_zoom(pipeline, zoom),
    }
    costs = interleave(cases, load.rounds, on_run)
    return _report(load, {DIRECT: direct, ZOOM: zoom}, flops, least, costs)


def _size(pipeline: Pipeline, answer: Answer) -> MethodSize:
    side = METHOD_SIDE_PX // 56
    prompt = answer.num_prompt_tokens
    if answer.route == ZOOM:
        prompt -= answer.num_roi_tokens + 2
    return method_size(pipeline.checkpoint, (side, side), prompt, len(answer.ids))


def _least_zoom(pipeline: Pipeline, zoom: Answer) -> int:
    size, length = _size(pipeline, zoom), zoom.num_prompt_tokens
    prompt = pipeline.gate.tokenize(
        single_question(QUESTION), [size.coarse_grid], [(METHOD_SIDE_PX, METHOD_SIDE_PX)]
    )
    x0, y0, x1, y1 = METHOD_BOX_PX
    roi_grid = ((y1 - y0) // 28, (x1 - x0) // 28)
    return sum(size.zoom(roi_grid, length - prompt.prefix_len, length).values())


def _report(
    load: MethodLoad,
    answers: Mapping[str, Answer],
    flops: Mapping[str, int],
    least: Mapping[str, int],
    costs: Mapping[str, Sequence[Cost]],
) -> Report:
    cpu = {name: [cost.cpu_s for cost in found] for name, found in costs.items()}
    rows, figures = [], {}
    for name, values in cpu.items():
        ratio = ratios(values, cpu[PLAIN])
        floor = least.get(name)
        rows.append(
            (
                name,
                spread(values).text(3),
                "" if name == PLAIN else ratio.text(3),
                f"{flops[name] / 1e9:.2f}",
                f"{flops[name] / flops[PLAIN]:.3f}",
                f"{floor / 1e9:.2f}" if floor else "",
                f"{flops[name] / floor:.4f}" if floor else "",
            )
        )
        figures[name] = {
            "cpu_s": asdict(spread(values)),
            "cpu_to_plain": asdict(ratio),
            "flops": flops[name],
            "least_flops": floor,
        }
    table = Rows(
        title=f"CPU seconds a request: median (quartiles) of {load.rounds}; FLOPs of the same run",
        columns=("", "CPU s", "to plain", "GFLOP", "to plain", "least GFLOP", "to least"),
        rows=tuple(rows),
    )
    names = tuple(cpu)
    return Report(
        bench="method",
        load={
            **asdict(load),
            "model": "random Qwen2.5-VL, hidden 256, 12 layers, 8/2 heads, B = 6, R = 3, "
            "vision 6 x 128, float32, sdpa",
            "coarse_tokens": answers[ZOOM].num_coarse_tokens,
            "roi_tokens": answers[ZOOM].num_roi_tokens,
            "prompt_tokens": {name: answer.num_prompt_tokens for name, answer in answers.items()},
        },
        tables=[table],
        figures=figures,
        plot=Plot(
            kind="bars",
            title="The method beside the plain model, coarse picture, one process",
            x_label="",
            y_label="times the plain model",
            x=names,
            series={
                "CPU seconds": tuple(ratios(cpu[n], cpu[PLAIN]).median for n in names),
                "FLOPs": tuple(flops[n] / flops[PLAIN] for n in names),
                "least FLOPs": tuple(least.get(n, flops[n]) / flops[PLAIN] for n in names),
            },
        ),
        targets=[
            Target("direct CPU to plain", ratios(cpu[DIRECT], cpu[PLAIN]).median, DIRECT_LIMIT),
            Target("zoom CPU to plain", ratios(cpu[ZOOM], cpu[PLAIN]).median, ZOOM_LIMIT),
            *(Target(f"{n} FLOPs to least", flops[n] / least[n], FLOP_LIMIT) for n in least),
        ],
        notes=["The direct route answers token for token as the plain model."],
    )
