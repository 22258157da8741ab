"""From records to the table and the JSON of a run."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.run import Record
from qzoom.metrics.intervals import Mean, bootstrap_mean


@dataclass(frozen=True, slots=True)
class Summary:
    """One mode in figures; a figure is None where no question bears on it.

    Attributes:
        mode: Name of the mode.
        all: Accuracy over all questions.
        groups: Accuracy by group.
        zoom_on_detail: Share of questions that need detail which went to zoom.
        direct_on_coarse: Share of the others which stayed direct.
        evidence_in_box: Share of RoIs on detail questions that hold the evidence's centre.
        box_area: Mean share of the picture that those RoIs cover.
        visual_tokens: Mean visual tokens.
        cpu_ms: Mean CPU milliseconds of a request.
    """

    mode: str
    all: Mean
    groups: dict[str, Mean]
    zoom_on_detail: Mean | None
    direct_on_coarse: Mean | None
    evidence_in_box: Mean | None
    box_area: Mean | None
    visual_tokens: float
    cpu_ms: float


def summarize(records: Sequence[Record]) -> Summary:
    """Summarise the records of one mode.

    Raises:
        ValueError: If there is no record.
    """
    detail = [r for r in records if r.needs_detail]
    coarse = [r for r in records if not r.needs_detail]
    boxed = [r for r in detail if r.evidence_in_box is not None]
    groups = sorted({r.group for r in records})
    return Summary(
        mode=records[0].mode if records else "",
        all=bootstrap_mean([r.is_right for r in records]),
        groups={
            group: bootstrap_mean([r.is_right for r in records if r.group == group])
            for group in groups
        },
        zoom_on_detail=_mean([float(r.route == "zoom") for r in detail]),
        direct_on_coarse=_mean([float(r.route == "direct") for r in coarse]),
        evidence_in_box=_mean([float(bool(r.evidence_in_box)) for r in boxed]),
        box_area=_mean([r.box_area for r in boxed if r.box_area is not None]),
        visual_tokens=sum(r.visual_tokens for r in records) / len(records),
        cpu_ms=1e3 * sum(r.cpu_s for r in records) / len(records),
    )


def _mean(values: Sequence[float]) -> Mean | None:
    return bootstrap_mean(values) if values else None


def to_json(
    summaries: Sequence[Summary], records: Sequence[Record], about: dict[str, Any]
) -> dict[str, Any]:
    """Everything of a run, with `about` naming command, machine, model and data."""
    return {
        "about": about,
        "summaries": [dataclasses.asdict(s) for s in summaries],
        "records": [dataclasses.asdict(r) for r in records],
    }
