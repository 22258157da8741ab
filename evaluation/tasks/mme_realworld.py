"""MME-RealWorld-Lite: large real pictures, multiple choice with five options.

Layout of yifanzhang114/MME-RealWorld-lite-lmms-eval: `data/train-*.parquet` with index, bytes
(base64), question, multi-choice options (list of "(A) ..."), answer, category, l2-category.
"""

import re

from evaluation.tasks.letters import choice_score, letter_of
from evaluation.tasks.task import HIGH_RES_GATE, HIGH_RES_LIMITS, Task, published
from qzoom.data.readers.fields import text_of, texts_of
from qzoom.data.readers.folders import Row, image_of
from qzoom.data.readers.images import ImageFolder
from qzoom.data.record import Record

LEAD = " The choices are listed below:\n"
PROMPT = (
    "\nSelect the best answer to the above multiple-choice question based on the image. Respond "
    "with only the letter (A, B, C, D, or E) of the correct option.\nThe best answer is: "
)


def _record(row: Row, where: str, images: ImageFolder) -> Record:
    options = texts_of(row, "multi-choice options")
    choices = tuple(re.sub(r"^\s*\([A-E]\)\s*", "", option) for option in options)
    category = str(row.get("category", ""))
    return Record(
        id=str(row.get("index", where)),
        picture=image_of(row, images, "bytes", "image"),
        question=text_of(row, "question") + LEAD + "\n".join(options) + PROMPT,
        answers=(letter_of(row, "answer", choices),),
        group="Perception" if "perception" in category.lower() else "Reasoning",
        domain="High-Res",
        choices=choices,
    )


MME_REALWORLD = Task(
    name="mme-realworld-lite",
    title="MME-RealWorld-Lite",
    domain="High-Res",
    splits=("train", "test", ""),
    to_record=_record,
    score=choice_score,
    metric="multiple choice",
    max_tokens=16,
    limits=HIGH_RES_LIMITS,
    thresholds=published(qwen2_5=0.04, qwen3=0.10, gate=HIGH_RES_GATE),
)
