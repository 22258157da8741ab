"""What became of every question: one JSON file a run, which every figure can be made from again."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qzoom.data.record import FloatBox
from qzoom.errors import InvalidRequest

FORMAT = 2


@dataclass(frozen=True, slots=True)
class Result:
    """One question in one mode.

    Attributes:
        mode: Name of the mode.
        kind: Kind of the mode.
        budget: Its budget of visual tokens; None for the model's own.
        id: Of the record.
        group: Group of the record.
        domain: Family of the record.
        needs_detail: Whether the coarse picture cannot show the answer; None if unknown.
        question: Its text, as in the data set.
        truths: The right answers.
        answer: The given answer, after post-processing.
        score: By the data set's metric, in [0, 1]; 0 where there was no answer.
        route: As taken.
        p_refine: The gate's score, where it was asked.
        box_px: The RoI in the source picture, on the zoom route.
        evidence_px: The box that decides the answer, where it is known.
        size_px: (width, height) of the source picture.
        coarse_tokens: Visual tokens of the coarse picture.
        roi_tokens: Visual tokens of the RoI.
        cpu_s: CPU seconds; None where another process did the work.
        wall_s: Seconds until the answer was whole; None where it shared a batch.
        error: What went wrong; "" if nothing did.
        question_kind: Kind of the record; "" where none is known.
    """

    mode: str
    kind: str
    budget: int | None
    id: str
    group: str
    domain: str
    needs_detail: bool | None
    question: str
    truths: tuple[str, ...]
    answer: str
    score: float
    route: str
    p_refine: float | None
    box_px: FloatBox | None
    evidence_px: FloatBox | None
    size_px: tuple[int, int]
    coarse_tokens: int
    roi_tokens: int
    cpu_s: float | None
    wall_s: float | None
    error: str = ""
    question_kind: str = ""

    @property
    def visual_tokens(self) -> int:
        """Coarse and RoI tokens together."""
        return self.coarse_tokens + self.roi_tokens

    @property
    def evidence_in_box(self) -> bool | None:
        """Whether the evidence's centre lies in the RoI; None without either."""
        if self.evidence_px is None or self.box_px is None:
            return None
        return centre_inside(self.evidence_px, self.box_px)

    @property
    def box_area(self) -> float | None:
        """Share of the picture that the RoI covers; None without one."""
        if self.box_px is None or not all(self.size_px):
            return None
        x0, y0, x1, y1 = self.box_px
        return (x1 - x0) * (y1 - y0) / (self.size_px[0] * self.size_px[1])


def centre_inside(evidence: FloatBox, box: FloatBox) -> bool:
    """Whether the centre of one box lies in the other."""
    x, y = (evidence[0] + evidence[2]) / 2, (evidence[1] + evidence[3]) / 2
    return box[0] <= x < box[2] and box[1] <= y < box[3]


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that one evaluation found.

    Attributes:
        about: Command, machine, model, data set, skipped records.
        results: In the order of modes and questions.
    """

    about: Mapping[str, Any]
    results: Sequence[Result] = field(default_factory=list)

    def modes(self) -> dict[str, list[Result]]:
        """Results by mode, in the order of the run."""
        found: dict[str, list[Result]] = {}
        for result in self.results:
            found.setdefault(result.mode, []).append(result)
        return found

    def save(self, path: Path, summaries: Sequence[Any] = ()) -> None:
        """Write one JSON file, whole or not at all.

        Args:
            path: The file; an existing one is replaced.
            summaries: Figures that are stored with it, for readers of the file.
        """
        document = {
            "format": FORMAT,
            "about": dict(self.about),
            "summaries": [dataclasses.asdict(summary) for summary in summaries],
            "results": [dataclasses.asdict(result) for result in self.results],
        }
        part = path.with_name(f"{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(_finite(document), indent=1, allow_nan=False) + "\n")
        part.replace(path)


def load_run(path: Path) -> Run:
    """Read what `Run.save` wrote.

    Raises:
        InvalidRequest: If the file is none, or of another format.
    """
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT:
            raise InvalidRequest(f"{path} has format {document['format']}, this reads {FORMAT}")
        results = [_result(values) for values in document["results"]]
        return Run(dict(document["about"]), results)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{path} is no file of an evaluation: {error!r}"[:300]) from None


def _result(values: Mapping[str, Any]) -> Result:
    fixed = {
        name: tuple(values[name])
        for name in ("truths", "box_px", "evidence_px", "size_px")
        if values[name] is not None
    }
    return Result(**{**values, **fixed})


def _finite(value: object) -> object:
    """Replace what JSON cannot say by null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return value
