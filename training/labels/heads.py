"""Which layers and heads know where to look? Found without boxes, from a few pictures.

The authors picked heads by hand for each model. Here a head is good if looking where it looks
gives the answer: each head's attention is turned into a box exactly as labels are, the box is
cropped, and the coarse picture with that crop must bring back the answer of the full-resolution
pass. Only questions count whose coarse answer differs from the full one: others say nothing.

1. All heads answer at full resolution and are watched. A head's concentration is the part of its
   attention that lies in its foreground's box, less the box' area; the most concentrated go on.
2. Each of them crops; its score is the mean log-probability of the full answer.
3. From the best head on, heads are added while the score of their averaged map grows.

Half of the questions choose; the other half is reported, beside no crop, all heads, random heads.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qzoom.contracts.stages import ImageSpan, Proposal
from qzoom.data.record import Record
from qzoom.metrics.match import exact_match
from training.labels.crops import area_share, finder, propose
from training.labels.regions import Evidence, Map, RegionRules, label_cells
from training.reading.attention import AnswerRows
from training.reading.reader import OpenPicture, Reader

Head = tuple[int, int]
"""(layer, query head), both from 0."""

_TAILS_AT_ONCE = 64
"""Crops that are encoded and scored together: bounds memory."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A question whose coarse and full answers differ.

    Attributes:
        picture: Opened at the coarse budget.
        question: Its number in the picture.
        answer: Tokens of the full-resolution answer.
        maps: Attention of every head at the full resolution [H, W].
        norms: Norms of the visual tokens' states, in medians [H, W].
    """

    picture: OpenPicture
    question: int
    answer: tuple[int, ...]
    maps: dict[Head, Map]
    norms: Map

    @property
    def span(self) -> ImageSpan:
        """Where the coarse picture lies in the prompt."""
        return self.picture.prompts[self.question].spans[0]


@dataclass(frozen=True, slots=True)
class Score:
    """How good a map's crops are.

    Attributes:
        log_probability: Mean over questions of the full answer's mean token log-probability.
        consistency: Part of the questions for which greedy decoding gives the full answer.
        area: Mean part of the picture that is cropped.
    """

    log_probability: float
    consistency: float
    area: float


@dataclass(frozen=True, slots=True)
class HeadChoice:
    """What was found.

    Attributes:
        heads: The chosen ones.
        table: Scores on the questions that were not used to choose: `chosen`, `no crop`,
            `all heads`, `random heads` (mean of several draws).
        single: Score of each shortlisted head on the questions that chose.
        questions: Questions that chose, and that were held out.
    """

    heads: tuple[Head, ...]
    table: dict[str, Score]
    single: dict[Head, Score]
    questions: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `heads` is what `qzoom label rpn --heads` reads."""
        grouped: dict[str, list[int]] = {}
        for layer, head in sorted(self.heads):
            grouped.setdefault(str(layer), []).append(head)
        return {
            "heads": grouped,
            "held_out": {name: _row(score) for name, score in self.table.items()},
            "single": {f"{h[0]}:{h[1]}": _row(score) for h, score in self.single.items()},
            "questions": {"choosing": self.questions[0], "held_out": self.questions[1]},
        }


def _row(score: Score) -> dict[str, float]:
    return {
        "log_probability": round(score.log_probability, 4),
        "consistency": round(score.consistency, 4),
        "area": round(score.area, 4),
    }


def probes(
    reader: Reader,
    groups: Sequence[Sequence[Record]],
    full_tokens: int,
    max_new_tokens: int,
    rows: AnswerRows = "fed_back",
) -> Iterator[list[Probe]]:
    """Find questions that tell heads apart, picture by picture.

    Where right answers are known, the full answer must be one of them.
    """
    layers: dict[int, list[int]] = {layer: [] for layer in range(reader.backbone.num_layers)}
    for group in groups:
        pixels = group[0].picture.load()
        full = reader.open(pixels, group, full_tokens)
        looks = [(i, None) for i in range(len(group))]
        tails = reader.tails(full, looks)
        seen = reader.answer(full, tails, max_new_tokens=max_new_tokens, heads=layers, rows=rows)
        coarse = reader.open(pixels, group)
        blurred = reader.answer(coarse, reader.tails(coarse, looks), max_new_tokens=max_new_tokens)
        norms = (full.norms / max(float(np.median(full.norms)), 1e-12)).reshape(full.grid)
        yield [
            Probe(
                coarse,
                i,
                seen[i].ids,
                {
                    (layer, head): values.reshape(full.grid)
                    for layer, of_layer in seen[i].attention.items()
                    for head, values in enumerate(of_layer)
                },
                norms,
            )
            for i, record in enumerate(group)
            if seen[i].attention
            and seen[i].ids != blurred[i].ids
            and (not record.answers or exact_match(seen[i].text, record.answers))
        ]


class HeadChooser:
    """Scores maps by what their crops give.

    Args:
        reader: The model.
        rules: How attention becomes a box.
        found: From `probes`.
        max_roi_tokens: Budget of the crops; None takes the model's.
    """

    def __init__(
        self,
        reader: Reader,
        rules: RegionRules,
        found: Sequence[Probe],
        max_roi_tokens: int | None = None,
    ) -> None:
        self.reader, self.rules, self._roi_tokens = reader, rules, max_roi_tokens
        self._finder = finder(reader.checkpoint)
        order = list(found)
        random.Random(0).shuffle(order)
        half = (len(order) + 1) // 2
        self.choosing, self.held_out = order[:half], order[half:]

    def concentration(self, head: Head) -> float:
        """Mean attention mass in the foreground's box, less the box' part of the picture."""
        total = 0.0
        for probe in self.choosing:
            evidence = _evidence(probe, probe.maps[head])
            grid = evidence.attention.shape
            _, box = label_cells(evidence, grid, self.rules)
            mass = float(evidence.attention.sum())
            if box is None or mass <= 0:
                continue
            x0, y0, x1, y1 = box
            inside = float(evidence.attention[y0:y1, x0:x1].sum()) / mass
            total += inside - (x1 - x0) * (y1 - y0) / evidence.attention.size
        return total / max(1, len(self.choosing))

    def score(self, questions: Sequence[Probe], choices: Sequence[Sequence[Head]]) -> list[Score]:
        """Score several sets of heads; the empty set takes no crop."""
        sums = np.zeros((len(choices), 3))
        for probe in questions:
            looks = [(probe.question, self._crop(probe, heads)) for heads in choices]
            for start in range(0, len(looks), _TAILS_AT_ONCE):
                part = looks[start : start + _TAILS_AT_ONCE]
                tails = self.reader.tails(probe.picture, part, self._roi_tokens)
                answers = [probe.answer] * len(part)
                scores = self.reader.score(probe.picture, tails, answers)
                for row, (found, (_, crop)) in enumerate(zip(scores, part, strict=True), start):
                    area = 0.0 if crop is None else area_share(crop.box_px, probe.span.size_px)
                    sums[row] += (found[0], found[1], area)
        sums /= max(1, len(questions))
        return [Score(*(float(v) for v in row)) for row in sums]

    def _crop(self, probe: Probe, heads: Sequence[Head]) -> Proposal | None:
        if not heads:
            return None
        maps = [probe.maps[head] for head in heads]
        attention: Map = np.mean(maps, axis=0, dtype=np.float32, keepdims=False)
        _, box = label_cells(_evidence(probe, attention), probe.span.grid, self.rules)
        return None if box is None else propose(self._finder, probe.span, box)


def _evidence(probe: Probe, attention: Map) -> Evidence:
    zeros = np.zeros_like(attention)
    return Evidence(attention, zeros, probe.norms, zeros.astype(np.bool_))


def choose_heads(
    chooser: HeadChooser,
    *,
    shortlist: int = 32,
    max_heads: int = 6,
    random_sets: int = 5,
    progress: Callable[[str], None] = lambda _: None,
) -> HeadChoice:
    """Choose heads (see the module).

    Args:
        chooser: With the questions.
        shortlist: Heads that get to crop.
        max_heads: Most heads that are averaged.
        random_sets: Draws of as many heads as were chosen, to compare with.
        progress: Told what is being done.

    Raises:
        ValueError: If fewer than four questions tell heads apart.
    """
    if len(chooser.held_out) < 2:
        raise ValueError(
            f"only {len(chooser.choosing) + len(chooser.held_out)} questions have a right answer "
            "at the full resolution that differs from the coarse one; give more pictures, or a "
            "larger difference of budgets"
        )
    every = sorted(chooser.choosing[0].maps)
    progress(f"concentration of {len(every)} heads")
    ranked = sorted(every, key=lambda head: -chooser.concentration(head))[:shortlist]
    progress(f"crops of {len(ranked)} heads")
    scores = dict(zip(ranked, chooser.score(chooser.choosing, [[h] for h in ranked]), strict=True))
    by_score = sorted(ranked, key=lambda head: (-scores[head].log_probability, scores[head].area))
    chosen, best = [by_score[0]], scores[by_score[0]].log_probability
    while len(chosen) < max_heads:
        rest = [head for head in by_score[: 2 * max_heads] if head not in chosen]
        if not rest:
            break
        progress(f"{len(chosen)} heads, one more?")
        tried = chooser.score(chooser.choosing, [[*chosen, head] for head in rest])
        value, index = max((s.log_probability, -i) for i, s in enumerate(tried))
        if value <= best:
            break
        chosen.append(rest[-index])
        best = value
    progress("held-out questions")
    draw = random.Random(1)
    sets = [draw.sample(every, len(chosen)) for _ in range(random_sets)]
    rows = chooser.score(chooser.held_out, [chosen, [], every, *sets])
    drawn = rows[3:]
    mean = Score(
        *(
            float(np.mean([getattr(s, name) for s in drawn]))
            for name in ("log_probability", "consistency", "area")
        )
    )
    table = {"chosen": rows[0], "no crop": rows[1], "all heads": rows[2], "random heads": mean}
    sizes = (len(chooser.choosing), len(chooser.held_out))
    return HeadChoice(tuple(sorted(chosen)), table, scores, sizes)
