"""DocVQA and InfoVQA (validation): reading documents and infographics, ANLS.

Layout of lmms-lab/DocVQA: `DocVQA/validation-*.parquet` and `InfographicVQA/validation-*.parquet`
with questionId, question, answers (list), image.
"""

from collections.abc import Iterator
from pathlib import Path

from evaluation.dataset import by_metric
from evaluation.tasks.task import DOC_GATE, Task, published
from qzoom.data.readers.fields import text_of, texts_of
from qzoom.data.readers.folders import Row, image_of, read_rows
from qzoom.data.readers.images import ImageFolder
from qzoom.data.record import Record
from qzoom.metrics.match import anls


def _record(row: Row, where: str, images: ImageFolder) -> Record:
    return Record(
        id=str(row.get("questionId", where)),
        picture=image_of(row, images, "image"),
        question=text_of(row, "question"),
        answers=texts_of(row, "answers"),
        domain="Doc/OCR",
    )


def _task(name: str, title: str, subset: str, tau_roi: tuple[float, float, float]) -> Task:
    def rows(folder: Path) -> Iterator[tuple[str, Row]] | None:
        # Both benchmarks lie in one repository, each in a folder of its own.
        inner = folder / subset
        return read_rows(inner, "validation") if inner.is_dir() else None

    return Task(
        name=name,
        title=title,
        domain="Doc/OCR",
        splits=("validation", ""),
        to_record=_record,
        score=by_metric(anls),
        metric="ANLS",
        max_tokens=32,
        thresholds=published(qwen2_5=tau_roi[0], qwen3=tau_roi[1], llava=tau_roi[2], gate=DOC_GATE),
        rows=rows,
    )


DOCVQA = _task("docvqa", "DocVQA, val", "DocVQA", (0.125, 0.15, 0.1))
INFOVQA = _task("infovqa", "InfoVQA, val", "InfographicVQA", (0.15, 0.15, 0.15))
