"""HR-Bench 4K and 8K: very large photographs, every question asked with its options in four orders.

Layout of DreamMr/HR-Bench: `hr_bench_4k.parquet` and `hr_bench_8k.parquet` (or the `.tsv` files of
the same names) with index, question, A, B, C, D, answer, category (single: FSP, cross: FCP),
cycle_category, image (base64). The published judge asks a GPT where no letter can be found; here
such an answer counts as wrong.
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from evaluation.tasks.letters import choice_score, letter_of
from evaluation.tasks.task import HIGH_RES_GATE, HIGH_RES_LIMITS, Task, published
from qzoom.data.readers.fields import text_of
from qzoom.data.readers.folders import Row, image_of
from qzoom.data.readers.images import ImageFolder
from qzoom.data.record import Record
from qzoom.errors import InvalidRequest

PROMPT = "Answer the option letter directly."
MAX_FIELD_CHARS = 256 * 1024 * 1024
"""A picture of 8K in base64 is a few tens of megabytes."""
_GROUPS = {"single": "FSP", "cross": "FCP"}


def _record(row: Row, where: str, images: ImageFolder) -> Record:
    choices = tuple(text_of(row, letter) for letter in "ABCD")
    listed = "".join(f"{letter}. {c}\n" for letter, c in zip("ABCD", choices, strict=True))
    category = str(row.get("category", "all"))
    return Record(
        id=where,
        picture=image_of(row, images, "image"),
        question=f"{text_of(row, 'question').strip()}\n{listed}{PROMPT}",
        answers=(letter_of(row, "answer", choices),),
        group=_GROUPS.get(category, category),
        domain="High-Res",
        choices=choices,
    )


def _table(name: str) -> Callable[[Path], Iterator[tuple[str, Row]] | None]:
    def rows(folder: Path) -> Iterator[tuple[str, Row]] | None:
        file = folder / f"{name}.tsv"
        return _tsv_rows(file) if file.is_file() else None

    return rows


def _tsv_rows(file: Path) -> Iterator[tuple[str, Row]]:
    csv.field_size_limit(MAX_FIELD_CHARS)
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            for number, row in enumerate(csv.DictReader(lines, delimiter="\t")):
                yield f"{file.name}:{number}", {k: v for k, v in row.items() if k is not None}
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file} cannot be read: {error}") from None


def _task(size: str) -> Task:
    return Task(
        name=f"hrbench{size}",
        title=f"HR-Bench {size.upper()}",
        domain="High-Res",
        splits=(f"hr_bench_{size}", f"hrbench_{size}"),
        to_record=_record,
        score=choice_score,
        metric="multiple choice",
        limits=HIGH_RES_LIMITS,
        thresholds=published(qwen2_5=0.04, qwen3=0.10, llava=0.1, gate=HIGH_RES_GATE),
        rows=_table(f"hr_bench_{size}"),
    )


HRBENCH_4K = _task("4k")
HRBENCH_8K = _task("8k")
