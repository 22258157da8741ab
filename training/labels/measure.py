"""How good are labels from some heads? Measured with evidence boxes, which no label ever sees."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qzoom.data.record import Record
from training.labels.crops import area_share, centre_inside, finder, propose
from training.labels.heads import Head
from training.labels.regions import Evidence, RegionRules, label_cells
from training.reading.attention import AnswerRows
from training.reading.reader import Heads, Reader


@dataclass(frozen=True, slots=True)
class LabelQuality:
    """Means over questions that have an evidence box and an answer of two tokens or more.

    Attributes:
        centre_inside: Part of the questions whose label box holds the evidence's centre.
        peak_inside: Part of the questions whose strongest cell touches the evidence.
        area: Mean part of the picture that the label box covers.
        questions: How many.
    """

    centre_inside: float
    peak_inside: float
    area: float
    questions: int


def head_sets(
    chosen: Heads, num_layers: int, num_heads: int, random_sets: int
) -> dict[str, list[Head]]:
    """The chosen heads, all heads, and draws of as many random ones."""
    every = [(layer, head) for layer in range(num_layers) for head in range(num_heads)]
    own = [
        (layer, head)
        for layer, heads in chosen.items()
        for head in (heads or range(num_heads))
        if layer < num_layers
    ]
    draw = random.Random(0)
    sets = {"chosen": own, "all heads": every}
    return sets | {f"random {i + 1}": draw.sample(every, len(own)) for i in range(random_sets)}


def measure_heads(
    reader: Reader,
    groups: Sequence[Sequence[Record]],
    sets: Mapping[str, Sequence[Head]],
    rules: RegionRules,
    *,
    max_tokens: int | None,
    max_new_tokens: int,
    rows: AnswerRows = "fed_back",
) -> Iterator[dict[str, LabelQuality]]:
    """Label with several sets of heads and compare with the evidence.

    Yields:
        The figures so far, after every picture.
    """
    layers = {layer: list[int]() for layer in sorted({h[0] for s in sets.values() for h in s})}
    regions = finder(reader.checkpoint)
    sums = {name: np.zeros(3) for name in sets}
    count = 0
    for group in groups:
        asked = [record for record in group if record.evidence_px is not None]
        if not asked:
            continue
        pixels = asked[0].picture.load()
        full = reader.open(pixels, asked, max_tokens)
        coarse = reader.open(pixels, asked)
        tails = reader.tails(full, [(i, None) for i in range(len(asked))])
        readings = reader.answer(
            full, tails, max_new_tokens=max_new_tokens, heads=layers, rows=rows
        )
        norms = (full.norms / max(float(np.median(full.norms)), 1e-12)).reshape(full.grid)
        for number, (record, reading) in enumerate(zip(asked, readings, strict=True)):
            if not reading.attention or record.evidence_px is None:
                continue
            count += 1
            span = coarse.prompts[number].spans[0]
            for name, heads in sets.items():
                attention = np.mean([reading.attention[a][b] for a, b in heads], axis=0)
                attention = attention.reshape(full.grid)
                zeros = np.zeros_like(attention)
                evidence = Evidence(attention, zeros, norms, zeros.astype(np.bool_))
                _, box = label_cells(evidence, span.grid, rules)
                crop = None if box is None else propose(regions, span, box)
                if crop is not None:
                    sums[name] += (
                        centre_inside(record.evidence_px, crop.box_px),
                        _touches(attention, record.evidence_px, span.size_px),
                        area_share(crop.box_px, span.size_px),
                    )
        if count:
            yield {
                name: LabelQuality(
                    float(total[0]) / count, float(total[1]) / count, float(total[2]) / count, count
                )
                for name, total in sums.items()
            }


def _touches(
    attention: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    evidence_px: Sequence[float],
    size_px: tuple[int, int],
) -> bool:
    row, column = np.unravel_index(int(attention.argmax()), attention.shape)
    height, width = attention.shape
    x0, y0, x1, y1 = evidence_px
    return bool(
        x0 / size_px[0] * width - 1 < column < x1 / size_px[0] * width
        and y0 / size_px[1] * height - 1 < row < y1 / size_px[1] * height
    )
