"""Hard samples of Post-SFT (III-D): right without the crop, wrong with it.

Base and RoI model answer the same questions; only the crop is between them. What the crop breaks
is what the language model still has to learn.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from qzoom.contracts.stages import Box, Proposal
from qzoom.data.record import Record
from qzoom.model.rpn import RegionProposer
from training.labels.llm_judge import Pair
from training.labels.shards import LabelFolder, Shard
from training.reading.reader import Reader

KIND = "hard-samples"
Verdict = tuple[bool, bool]
Judge = Callable[[Sequence[Pair], Sequence[Sequence[str]]], Sequence[Verdict | None]]
"""From pairs and their accepted answers to (base is right, RoI is right)."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One question, answered twice.

    Attributes:
        id: Of the record.
        question: Its text.
        truth: The answer to learn.
        base_right: Whether the answer without a crop is right.
        roi_right: Whether the answer with it is.
        box_cells: The crop in coarse cells.
        box_px: The crop in source pixels.
        kept: Which of the crop's tokens are used; None uses all.
    """

    id: str
    question: str
    truth: str
    base_right: bool
    roi_right: bool
    box_cells: Box
    box_px: Box
    kept: tuple[int, ...] | None

    @property
    def is_hard(self) -> bool:
        """Whether the crop broke the answer."""
        return self.base_right and not self.roi_right

    def proposal(self) -> Proposal:
        """The crop."""
        return Proposal(0, self.box_cells, self.box_px, 1.0, self.kept)


def compare_pictures(
    reader: Reader,
    rpn: RegionProposer,
    groups: Sequence[Sequence[Record]],
    max_new_tokens: int,
    judge: Judge,
) -> Shard:
    """Answer with and without a crop, and judge.

    Left out: questions without a known answer, without a crop, and those that the judge gives no
    verdict on.
    """
    pairs: list[Pair] = []
    truths: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    for group in groups:
        asked = [record for record in group if record.answers]
        if not asked:
            continue
        picture = reader.open(asked[0].picture.load(), asked)
        proposals = reader.propose(picture, rpn)
        cropped = [i for i, proposal in enumerate(proposals) if proposal is not None]
        if not cropped:
            continue
        direct = reader.tails(picture, [(i, None) for i in cropped])
        zoomed = reader.tails(picture, [(i, proposals[i]) for i in cropped])
        base = reader.answer(picture, direct, max_new_tokens=max_new_tokens)
        roi = reader.answer(picture, zoomed, max_new_tokens=max_new_tokens)
        for number, a, b in zip(cropped, base, roi, strict=True):
            record, proposal = asked[number], proposals[number]
            assert proposal is not None
            pairs.append(Pair(record.question, record.answers[0], a.text, b.text))
            truths.append(record.answers)
            records.append(
                {
                    "id": record.id,
                    "question": record.question,
                    "truth": record.answers[0],
                    "base": a.text,
                    "roi": b.text,
                    "box_cells": proposal.box_cells,
                    "box_px": proposal.box_px,
                    "kept": proposal.kept,
                }
            )
    judged = [
        {**record, "base_right": verdict[0], "roi_right": verdict[1]}
        for record, verdict in zip(records, judge(pairs, truths), strict=True)
        if verdict is not None
    ]
    return Shard(judged, {})


def read_comparisons(folder: LabelFolder) -> Iterator[Comparison]:
    """Read hard-sample labels."""
    for shard in folder.read():
        for record in shard.records:
            yield Comparison(
                id=record["id"],
                question=record["question"],
                truth=record["truth"],
                base_right=record["base_right"],
                roi_right=record["roi_right"],
                box_cells=_box(record["box_cells"]),
                box_px=_box(record["box_px"]),
                kept=None if record["kept"] is None else tuple(record["kept"]),
            )


def _box(values: Sequence[int]) -> Box:
    x0, y0, x1, y1 = values
    return (x0, y0, x1, y1)
