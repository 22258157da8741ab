"""OCRBench (test): reading text of all kinds; the truth must stand in the answer.

Layout of echo840/OCRBench: `data/test-*.parquet` with dataset, question, question_type, answer
(list), image. The published score is the number of right answers of 1,000.
"""

from collections.abc import Sequence

from evaluation.results import Result
from evaluation.tasks.task import DOC_GATE, OCR_LIMITS, Task, published
from qzoom.data.readers.fields import text_of, texts_of
from qzoom.data.readers.folders import Row, image_of
from qzoom.data.readers.images import ImageFolder
from qzoom.data.record import Record
from qzoom.metrics.contain import contains, contains_formula

FORMULAE = "Handwritten Mathematical Expression Recognition"


def _record(row: Row, where: str, images: ImageFolder) -> Record:
    return Record(
        id=where,
        picture=image_of(row, images, "image"),
        question=text_of(row, "question").strip(),
        answers=texts_of(row, "answer"),
        group=text_of(row, "question_type"),
        domain="Doc/OCR",
    )


def _score(record: Record, answer: str) -> float:
    judge = contains_formula if record.group == FORMULAE else contains
    return judge(answer, record.answers)


def _figures(results: Sequence[Result]) -> dict[str, float]:
    return {"score of 1,000": 1000 * sum(r.score for r in results) / len(results)}


OCRBENCH = Task(
    name="ocrbench",
    title="OCRBench, test",
    domain="Doc/OCR",
    splits=("test", ""),
    to_record=_record,
    score=_score,
    metric="containment",
    limits=OCR_LIMITS,
    thresholds=published(qwen2_5=0.15, qwen3=0.125, llava=0.05, gate=DOC_GATE),
    figures=_figures,
)
