"""Label data for the RPN: what did the model look at while it answered? (III-C-2, Eq. 10).

Per question the raw attention map is kept, not its labels: thresholds can be changed without
reading the pictures again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qzoom.data.record import Record
from training.labels.regions import Evidence, Map
from training.labels.shards import LabelFolder, Shard
from training.reading.attention import AnswerRows
from training.reading.reader import Heads, OpenPicture, Reader, Reading

KIND = "rpn"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionJob:
    """How the attention is taken.

    Attributes:
        heads: Layers and heads whose attention is averaged, equal weights.
        sink_heads: Heads whose attention marks sinks (the published rule); empty takes none.
        max_tokens: Visual tokens of the pass; None takes the model's coarse budget.
        max_new_tokens: Most tokens of an answer.
        use_answers: Feed the record's answer back instead of the model's own.
        rows: Query rows whose attention is taken.
    """

    heads: Heads
    sink_heads: Heads
    max_tokens: int | None
    max_new_tokens: int = 128
    use_answers: bool = False
    rows: AnswerRows = "fed_back"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "heads": heads_to_json(self.heads),
            "sink_heads": heads_to_json(self.sink_heads),
            "max_tokens": self.max_tokens,
            "max_new_tokens": self.max_new_tokens,
            "use_answers": self.use_answers,
            "rows": self.rows,
        }


def heads_to_json(heads: Heads) -> dict[str, list[int]]:
    """JSON has text keys only."""
    return {str(layer): list(found) for layer, found in sorted(heads.items())}


@dataclass(frozen=True, slots=True)
class RegionSample:
    """One question with what the model looked at.

    Attributes:
        id: Of the record.
        question: Its text, to tell whether the data has changed.
        response: The model's answer.
        evidence: Where it looked.
    """

    id: str
    question: str
    response: str
    evidence: Evidence


def read_attention(
    reader: Reader, group: Sequence[Record], job: RegionJob, heads: Heads
) -> tuple[OpenPicture, list[Reading]]:
    """Answer questions about one picture, watching some heads."""
    picture = reader.open(group[0].picture.load(), group, job.max_tokens)
    tails = reader.tails(picture, [(i, None) for i in range(len(group))])
    if job.use_answers:
        answers = [reader.answer_ids(r.answers[0]) if r.answers else () for r in group]
        return picture, reader.follow(picture, tails, answers, heads, job.rows)
    readings = reader.answer(
        picture, tails, max_new_tokens=job.max_new_tokens, heads=heads, rows=job.rows
    )
    return picture, readings


def label_pictures(reader: Reader, groups: Sequence[Sequence[Record]], job: RegionJob) -> Shard:
    """Make one shard.

    Questions whose answer has no row of attention (see `AnswerRows`) are left out.
    """
    records: list[dict[str, Any]] = []
    maps: dict[str, list[NDArray[np.float16]]] = {"attention": [], "sink_mass": [], "norms": []}
    watched = merged_heads(job.heads, job.sink_heads)
    for group in groups:
        picture, readings = read_attention(reader, group, job, watched)
        norms = picture.norms / max(float(np.median(picture.norms)), 1e-12)
        for record, reading in zip(group, readings, strict=True):
            if not reading.attention:
                continue
            for name, heads in (("attention", job.heads), ("sink_mass", job.sink_heads)):
                found = average(reading, heads, watched)
                none = np.zeros(len(norms), np.float16)
                maps[name].append(none if found is None else found.astype(np.float16))
            maps["norms"].append(norms.astype(np.float16))
            records.append(
                {
                    "id": record.id,
                    "question": record.question,
                    "response": reading.text,
                    "grid": list(picture.grid),
                    "size_px": list(picture.prompts[0].spans[0].size_px),
                }
            )
    arrays = {name: np.concatenate(values) for name, values in maps.items() if values}
    return Shard(records, arrays)


def merged_heads(*choices: Heads) -> dict[int, list[int]]:
    """All heads of several choices."""
    layers = sorted({layer for heads in choices for layer in heads})
    found: dict[int, list[int]] = {}
    for layer in layers:
        parts = [list(heads[layer]) for heads in choices if layer in heads]
        found[layer] = [] if [] in parts else sorted({h for part in parts for h in part})
    return found


def average(reading: Reading, heads: Heads, watched: Heads) -> Map | None:
    """Mean over heads of the answer's attention (Eq. 10), [V]; None where none are chosen."""
    rows = []
    for layer, chosen in heads.items():
        stored = list(watched[layer])
        found = reading.attention[layer]
        at = range(len(found)) if not chosen else [stored.index(h) if stored else h for h in chosen]
        rows += [found[i] for i in at]
    return np.mean(rows, axis=0, dtype=np.float32) if rows else None


def square_padding(size_px: Sequence[int], grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Cells that lie wholly in the padding of a picture that was centred on a square.

    Args:
        size_px: (width, height) of the picture.
        grid: (H, W) of the square.
    """
    sides = [min(1.0, size_px[axis] / max(size_px)) for axis in (1, 0)]
    edges = [np.arange(cells + 1) / cells for cells in grid]
    empty = [
        (edge[1:] <= (1 - side) / 2) | (edge[:-1] >= (1 + side) / 2)
        for edge, side in zip(edges, sides, strict=True)
    ]
    return empty[0][:, None] | empty[1][None, :]


def read_samples(folder: LabelFolder) -> Iterator[RegionSample]:
    """Read RPN labels."""
    for shard in folder.read():
        start = 0
        for record in shard.records:
            height, width = record["grid"]
            end = start + height * width
            maps: Mapping[str, Map] = {
                name: shard.arrays[name][start:end].astype(np.float32).reshape(height, width)
                for name in ("attention", "sink_mass", "norms")
            }
            start = end
            padding = np.zeros((height, width), np.bool_)
            if folder.job["family"] == "llava":
                padding = square_padding(record["size_px"], (height, width))
            yield RegionSample(
                record["id"],
                record["question"],
                record["response"],
                Evidence(**maps, padding=padding),
            )
