"""V* (test): small things in large photographs, multiple choice.

Layouts: lmms-lab/vstar-bench, `data/test-*.parquet` with image, text (the question with its options
as "(A) ... (B) ..."), label, category, question_id; and craigwu/vstar_bench,
`test_questions.jsonl` with the same fields beside the pictures.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from evaluation.tasks.letters import choice_score, letter_of
from evaluation.tasks.task import HIGH_RES_GATE, HIGH_RES_LIMITS, Task, published
from qzoom.data.readers.fields import text_of
from qzoom.data.readers.folders import Row, image_of
from qzoom.data.readers.images import ImageFolder
from qzoom.data.readers.lines import read_json_items
from qzoom.data.readers.problems import BadRecord, Problems
from qzoom.data.record import Record

LINES = "test_questions.jsonl"
PROMPT = "\nAnswer with the option's letter from the given choices directly."
_OPTION = re.compile(r"\(([A-D])\)\s*")


def _record(row: Row, where: str, images: ImageFolder) -> Record:
    text = text_of(row, "text").replace(PROMPT, "")
    question, *rest = _OPTION.split(text)
    choices = tuple(option.strip() for option in rest[1::2])
    if len(choices) < 2 or rest[::2] != list("ABCD"[: len(choices)]):
        raise BadRecord("text has no options (A), (B), ...", text[:60])
    listed = "\n".join(f"{letter}. {c}" for letter, c in zip("ABCD", choices, strict=False))
    return Record(
        id=str(row.get("question_id", where)),
        picture=image_of(row, images, "image"),
        question=f"{question.strip()}\n{listed}{PROMPT}",
        answers=(letter_of(row, "label", choices),),
        group=str(row.get("category", "all")),
        domain="High-Res",
        choices=choices,
    )


def _lines(folder: Path) -> Iterator[tuple[str, Row]] | None:
    file = folder / LINES
    return read_json_items(file, Problems()) if file.is_file() else None


VSTAR = Task(
    name="vstar",
    title="V*, test",
    domain="High-Res",
    splits=("test", ""),
    to_record=_record,
    score=choice_score,
    metric="multiple choice",
    max_tokens=16,
    limits=HIGH_RES_LIMITS,
    thresholds=published(qwen2_5=0.03, qwen3=0.10, llava=0.1, gate=HIGH_RES_GATE),
    rows=_lines,
)
