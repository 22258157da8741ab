"""ChartQA (test): questions about charts, relaxed accuracy.

Layout of lmms-lab/ChartQA: `data/test-*.parquet` with type (human_test or augmented_test),
question, answer, image.
"""

from evaluation.dataset import by_metric
from evaluation.tasks.task import DOC_GATE, Task, published
from qzoom.data.readers.fields import text_of, texts_of
from qzoom.data.readers.folders import Row, image_of
from qzoom.data.readers.images import ImageFolder
from qzoom.data.record import Record
from qzoom.metrics.relaxed import relaxed_accuracy

PROMPT = "\nAnswer the question with a single word."


def _record(row: Row, where: str, images: ImageFolder) -> Record:
    return Record(
        id=where,
        picture=image_of(row, images, "image"),
        question=text_of(row, "question") + PROMPT,
        answers=texts_of(row, "answer")[:1],
        group=str(row.get("type", "all")).removesuffix("_test"),
        domain="Doc/OCR",
    )


CHARTQA = Task(
    name="chartqa",
    title="ChartQA, test",
    domain="Doc/OCR",
    splits=("test", ""),
    to_record=_record,
    score=by_metric(relaxed_accuracy),
    metric="relaxed accuracy",
    max_tokens=16,
    thresholds=published(qwen2_5=0.125, qwen3=0.15, llava=0.15, gate=DOC_GATE),
)
