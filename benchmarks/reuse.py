"""What does the second question about a picture cost? Time to the first token, against the first.

Three cases: direct; zoom, each question into its own region; zoom into the same region, which a
threshold below every cell makes the whole picture.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.clients import Client, Item, Sample, open_client
from benchmarks.contest import OURS, Say
from benchmarks.measure import Spread, spread
from benchmarks.questions import Method, mixed_items
from benchmarks.report import Plot, Report, Rows, Target
from benchmarks.servers.launch import ServerProcess
from qzoom.errors import QZoomError

QUESTIONS = 8
_BELOW_EVERY_CELL = 1e-6
CASES: dict[str, tuple[Method, float]] = {
    "direct": ({"route": "direct"}, 0.3),
    "zoom": ({"route": "zoom", "tau_roi": 0.02}, 0.6),
    "zoom, same region": ({"route": "zoom", "tau_roi": _BELOW_EVERY_CELL}, 0.4),
}
"""The `qzoom` object of each case, and what later questions may cost of the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReuseLoad:
    """What is run.

    Attributes:
        pictures: New pictures of each case.
        max_tokens: Most tokens of each answer.
        threads: Of each service.
    """

    pictures: int = 8
    max_tokens: int = 8
    threads: int = 1


def run(model: Path, load: ReuseLoad, say: Say) -> Report:
    """Ask eight questions about each picture, one after the other.

    Raises:
        QZoomError: If an answer that reused state differs from the answer without.
    """
    given = {"model": str(model), "threads": load.threads}
    with ServerProcess(OURS, "benchmarks.servers.ours", given) as server:
        samples = asyncio.run(_ask(server, load, say))
    return _report(model, load, samples)


async def _ask(server: ServerProcess, load: ReuseLoad, say: Say) -> dict[str, list[list[Sample]]]:
    found: dict[str, list[list[Sample]]] = {case: [] for case in CASES}
    async with open_client(server.endpoint, "rest") as client:
        # Cases in turn, each on pictures that nobody has asked about.
        count = (load.pictures + 1) * QUESTIONS * len(CASES)
        items = mixed_items(count, per_picture=QUESTIONS, max_tokens=load.max_tokens)
        places = iter(range(0, count, QUESTIONS))
        for number in range(load.pictures + 1):
            for case, (method, _) in CASES.items():
                say(f"picture {number}, {case}")
                start = next(places)
                own = items[start : start + QUESTIONS]
                samples = await _ask_in_order(client, start, own, method)
                if number:
                    found[case].append(samples)
    return found


async def _ask_in_order(
    client: Client, start: int, items: Sequence[Item], method: Method
) -> list[Sample]:
    samples = []
    for index, item in enumerate(items):
        asked = Item(item.image, item.question, item.truth, method, item.max_tokens)
        samples.append(await client.ask(start + index, asked))
    failed = [sample.error for sample in samples if sample.error is not None]
    if failed:
        raise QZoomError(f"{len(failed)} of {len(samples)} questions failed: {failed[0]}")
    # The same question on the state that is held now must get the same answer.
    again = await client.ask(start, Item(items[0].image, items[0].question, None, method, 8))
    if not again.text.startswith(samples[0].text[: len(again.text)]):
        raise QZoomError(f"answer {again.text!r} with reuse, {samples[0].text!r} without")
    return samples


def _report(
    model: Path, load: ReuseLoad, found: Mapping[str, Sequence[Sequence[Sample]]]
) -> Report:
    by_place: dict[str, list[Spread]] = {}
    later: dict[str, Spread] = {}
    for case, runs in found.items():
        times = [[sample.ttft_s or sample.total_s for sample in samples] for samples in runs]
        by_place[case] = [
            spread([own[place] for own in times]).scaled(1e3) for place in range(QUESTIONS)
        ]
        later[case] = spread([one / own[0] for own in times for one in own[1:]])
    return Report(
        bench="reuse",
        load={**asdict(load), "model": model.name, "questions": QUESTIONS},
        tables=[
            Rows(
                title=f"TTFT, ms: median (quartiles) of {load.pictures} pictures",
                columns=("question", *found),
                rows=(
                    *(
                        (str(place + 1), *(by_place[case][place].text(1) for case in found))
                        for place in range(QUESTIONS)
                    ),
                    ("2..8, of the first", *(later[case].text(2) for case in found)),
                ),
            )
        ],
        figures={
            case: {
                "ttft_ms": [asdict(one) for one in by_place[case]],
                "later_of_first": asdict(later[case]),
            }
            for case in found
        },
        plot=Plot(
            kind="lines",
            title="Time to the first token, question after question about one picture",
            x_label="question",
            y_label="TTFT, ms",
            x=tuple(float(place + 1) for place in range(QUESTIONS)),
            series={case: tuple(one.median for one in by_place[case]) for case in found},
        ),
        targets=[
            Target(f"{case}: questions 2..8, of the first", later[case].median, CASES[case][1])
            for case in found
        ],
        notes=["The first question of each picture, asked again, got the same answer."],
    )
