"""TextVQA (validation): text in photographs, VQA accuracy over ten answers.

Layout of lmms-lab/textvqa: `data/validation-*.parquet` with question_id, question, answers (ten),
image. No OCR tokens are put into the prompt, as in the published runs.
"""

from evaluation.dataset import by_metric
from evaluation.tasks.task import DOC_GATE, Task, published
from qzoom.data.readers.fields import text_of, texts_of
from qzoom.data.readers.folders import Row, image_of
from qzoom.data.readers.images import ImageFolder
from qzoom.data.record import Record
from qzoom.metrics.vqa import vqa_accuracy


def _record(row: Row, where: str, images: ImageFolder) -> Record:
    return Record(
        id=str(row.get("question_id", where)),
        picture=image_of(row, images, "image"),
        question=text_of(row, "question").capitalize(),
        answers=texts_of(row, "answers"),
        domain="Doc/OCR",
    )


TEXTVQA = Task(
    name="textvqa",
    title="TextVQA, val",
    domain="Doc/OCR",
    splits=("validation", ""),
    to_record=_record,
    score=by_metric(vqa_accuracy),
    metric="VQA accuracy",
    thresholds=published(qwen2_5=0.15, qwen3=0.15, llava=0.15, gate=DOC_GATE),
)
