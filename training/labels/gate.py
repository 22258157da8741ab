"""Labels of the gate (III-B-1): answers along a rising trajectory of resolutions.

The answers are kept, not the labels: each way of labelling draws from the same files, so that the
consistency-aware way can be compared with the naive one (Fig. 9) on equal data.

consistency    the paper: only questions that are wrong up to some resolution and right from there
               on; a resolution is drawn; the label is whether it was wrong there
naive          the paper's baseline: every question, wrong or right at the lowest resolution
published      the authors' code: consensus of the last two resolutions in place of single answers,
               at most as many easy questions as hard ones, draws near the step
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qzoom.data.record import Record
from qzoom.metrics.match import normalize
from training.labels.judge import Match, is_contained, is_right
from training.labels.shards import LabelFolder, Shard
from training.reading.reader import Reader

KIND = "gate"
GateRule = Literal["consistency", "naive", "published"]
_NEAR_STEP = 0.9
"""Part of the published draws of hard questions that are labelled 1."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One question at every resolution.

    Attributes:
        id: Of the record.
        question: Its text.
        truths: Accepted answers.
        answers: Given ones, by rising resolution.
        right: Which of them are right.
    """

    id: str
    question: str
    truths: tuple[str, ...]
    answers: tuple[str, ...]
    right: tuple[bool, ...]

    @property
    def is_step(self) -> bool:
        """Whether correctness is a step function that ends right: never right, then wrong."""
        return self.right[-1] and list(self.right) == sorted(self.right)


@dataclass(frozen=True, slots=True)
class GateDraw:
    """A question at one resolution.

    Attributes:
        budget: Number of the resolution.
        label: 1 where the answer was wrong: look closer.
    """

    budget: int
    label: int


def label_trajectories(
    reader: Reader,
    groups: Sequence[Sequence[Record]],
    budgets: Sequence[int],
    max_new_tokens: int,
    match: Match,
    threshold: float,
) -> Shard:
    """Answer questions at every resolution; those without a known answer are left out."""
    records: list[dict[str, Any]] = []
    for group in groups:
        asked = [record for record in group if record.answers]
        if not asked:
            continue
        pixels = asked[0].picture.load()
        looks = [(i, None) for i in range(len(asked))]
        texts: list[list[str]] = [[] for _ in asked]
        for budget in budgets:
            picture = reader.open(pixels, asked, budget)
            tails = reader.tails(picture, looks)
            readings = reader.answer(picture, tails, max_new_tokens=max_new_tokens)
            for found, reading in zip(texts, readings, strict=True):
                found.append(reading.text)
        records += [
            {
                "id": record.id,
                "question": record.question,
                "truths": list(record.answers),
                "answers": found,
                "right": [is_right(text, record.answers, match, threshold) for text in found],
            }
            for record, found in zip(asked, texts, strict=True)
        ]
    return Shard(records, {})


def read_trajectories(folder: LabelFolder) -> Iterator[Trajectory]:
    """Read gate labels."""
    for shard in folder.read():
        for record in shard.records:
            yield Trajectory(
                record["id"],
                record["question"],
                tuple(record["truths"]),
                tuple(record["answers"]),
                tuple(record["right"]),
            )


def choose_trajectories(
    found: Sequence[Trajectory], rule: GateRule, max_easy_ratio: float | None, seed: int
) -> list[Trajectory]:
    """Keep what a rule learns from.

    Args:
        found: All questions.
        rule: See the module.
        max_easy_ratio: Most easy questions (right everywhere) for each hard one; None keeps all.
            The published rule has 1.
        seed: Of the choice among easy questions.
    """
    if rule == "naive":
        return list(found)
    if rule == "consistency":
        kept = [t for t in found if t.is_step]
        hard = [t for t in kept if not all(t.right)]
        easy = [t for t in kept if all(t.right)]
    else:
        hard, easy = [], []
        for trajectory in found:
            wrong = consensus_wrong(trajectory)
            if wrong is not None and wrong == list(range(len(wrong))):
                (hard if wrong else easy).append(trajectory)
        max_easy_ratio = 1.0 if max_easy_ratio is None else max_easy_ratio
    if max_easy_ratio is not None and len(easy) > max_easy_ratio * len(hard):
        count = int(max_easy_ratio * len(hard))
        chosen = np.random.default_rng(seed).choice(len(easy), count, replace=False)
        easy = [easy[i] for i in sorted(chosen.tolist())]
    return hard + easy


def consensus_wrong(trajectory: Trajectory) -> list[int] | None:
    """Resolutions that contradict what the last two agree on; None where they do not agree.

    The agreed answer must match the truth too.
    """
    last = [normalize(text) for text in trajectory.answers[-2:]]
    target, count = Counter(last).most_common(1)[0]
    if count < len(last) or not any(is_contained(target, t) for t in trajectory.truths):
        return None
    return [i for i, text in enumerate(trajectory.answers) if not is_contained(text, target)]


def draw(
    trajectory: Trajectory,
    rule: GateRule,
    random: np.random.Generator,
    budgets: Sequence[int] | None = None,
) -> GateDraw | None:
    """Draw one training pair.

    Args:
        trajectory: Kept by `choose_trajectories`.
        rule: See the module.
        random: Source of the draw.
        budgets: Numbers of the resolutions that may be drawn; None allows all.

    Returns:
        pair: None where the published rule has nothing to draw.
    """
    if rule == "naive":
        return GateDraw(0, int(not trajectory.right[0]))
    allowed = list(budgets) if budgets else list(range(len(trajectory.right)))
    if rule == "consistency":
        chosen = allowed[int(random.integers(len(allowed)))]
        return GateDraw(chosen, int(not trajectory.right[chosen]))
    wrong = consensus_wrong(trajectory)
    assert wrong is not None, "kept trajectories have a consensus"
    matching = [i for i in range(len(wrong), len(trajectory.answers) - 2) if i in allowed]
    if wrong and random.random() < _NEAR_STEP:
        near = [i for i in wrong[-2:] if i in allowed]
        return GateDraw(near[int(random.integers(len(near)))], 1) if near else None
    return GateDraw(matching[int(random.integers(len(matching)))], 0) if matching else None
