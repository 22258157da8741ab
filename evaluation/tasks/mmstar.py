"""MMStar (val): multiple choice that cannot be answered without the picture.

Layout of Lin-Chen/MMStar: `mmstar.parquet` (or `data/val-*.parquet`) with index, question (with its
options), image, answer (a letter), category, l2_category. The published figure is the mean over
the second-level categories.
"""

from collections.abc import Sequence

from evaluation.results import Result
from evaluation.tasks.letters import choice_score, letter_of
from evaluation.tasks.task import Task
from qzoom.data.readers.fields import text_of
from qzoom.data.readers.folders import Row, image_of
from qzoom.data.readers.images import ImageFolder
from qzoom.data.record import Record


def _record(row: Row, where: str, images: ImageFolder) -> Record:
    return Record(
        id=str(row.get("index", where)),
        picture=image_of(row, images, "image"),
        question=text_of(row, "question").strip(),
        answers=(letter_of(row, "answer", 4),),
        group=f"{text_of(row, 'category')}: {text_of(row, 'l2_category')}",
        domain="General",
    )


def _figures(results: Sequence[Result]) -> dict[str, float]:
    groups = sorted({r.group for r in results})
    means = {}
    for group in groups:
        scores = [r.score for r in results if r.group == group]
        means[group] = sum(scores) / len(scores)
    categories = sorted({group.partition(": ")[0] for group in groups})
    found = {
        category: _mean([m for g, m in means.items() if g.partition(": ")[0] == category])
        for category in categories
    }
    return {**found, "average": _mean(list(means.values()))}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


MMSTAR = Task(
    name="mmstar",
    title="MMStar, val",
    domain="General",
    splits=("val", "mmstar", ""),
    to_record=_record,
    score=choice_score,
    metric="multiple choice",
    figures=_figures,
)
