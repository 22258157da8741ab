"""What makes a benchmark: its rows, its prompt, its judge, and the published settings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

from evaluation.dataset import DataSet, Score
from evaluation.results import Result
from qzoom.data.readers.folders import Row, read_rows
from qzoom.data.readers.images import ImageFolder
from qzoom.data.readers.problems import BadRecord, Problems
from qzoom.data.record import Record
from qzoom.errors import InvalidRequest, NotFound
from qzoom.model.config import Family

SHORT_ANSWER = "\nAnswer the question using a single word or phrase."
"""The published evaluation puts this behind every text that lacks it, multiple choice included."""

Domain = Literal["Doc/OCR", "High-Res", "General"]
DOC_LIMITS, OCR_LIMITS, HIGH_RES_LIMITS = (256, 576), (128, 576), (512, 4096)
"""(fewest, most) visual tokens of the published runs."""

ToRecord = Callable[[Row, str, ImageFolder], Record]
"""(row, "file:row", where pictures given by path lie) -> record; raises `BadRecord`."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Published operating point of one benchmark for one family's released checkpoints.

    Attributes:
        tau_gate: None where the family has no gate.
        tau_roi: Threshold of the map.
    """

    tau_gate: float | None
    tau_roi: float


@dataclass(frozen=True, slots=True)
class Task:
    """One benchmark.

    Attributes:
        name: On the command line.
        title: In reports.
        domain: Family of benchmarks.
        splits: Prefixes of the files, or names of folders, that hold the questions; the first that
            exists is read. "" takes every file.
        to_record: Makes a record of a row.
        score: Judges an answer.
        metric: Name of the metric.
        max_tokens: Most tokens of an answer.
        limits: (fewest, most) visual tokens.
        thresholds: By family.
        figures: The benchmark's own totals, such as MME's sums; None where the mean says it all.
        rows: Reads the rows where the layout is not Parquet.
    """

    name: str
    title: str
    domain: Domain
    splits: tuple[str, ...]
    to_record: ToRecord
    score: Score
    metric: str
    max_tokens: int = 128
    limits: tuple[int, int] = DOC_LIMITS
    thresholds: Mapping[Family, Thresholds] = field(default_factory=dict)
    figures: Callable[[Sequence[Result]], dict[str, float]] | None = None
    rows: Callable[[Path], Iterator[tuple[str, Row]] | None] = lambda _: None

    def open(self, folder: Path, questions: int | None = None) -> DataSet:
        """Read the benchmark.

        Args:
            folder: Where its files lie.
            questions: Take so many and no more; None takes all.

        Raises:
            NotFound: If there is no such folder.
            InvalidRequest: If it holds none of the benchmark's files, or no good record.
        """
        if not folder.exists():
            raise NotFound(f"there is no folder {folder} with the files of {self.title}")
        problems = Problems()
        records = list(islice(self._records(folder, problems), questions))
        if not records:
            raise InvalidRequest(f"{folder} holds no record of {self.title}; {problems}")
        return DataSet(
            name=self.name,
            records=records,
            score=self.score,
            metric=self.metric,
            suffix=SHORT_ANSWER,
            max_tokens=self.max_tokens,
            limits=self.limits,
            skipped=problems,
            figures=self.figures,
        )

    def _records(self, folder: Path, problems: Problems) -> Iterator[Record]:
        images = ImageFolder(folder if folder.is_dir() else folder.parent)
        for where, row in self.rows(folder) or self._parquet_rows(folder):
            try:
                yield self.to_record(row, where, images)
            except BadRecord as error:
                problems.add(where, error)

    def _parquet_rows(self, folder: Path) -> Iterator[tuple[str, Row]]:
        for split in self.splits[:-1]:
            try:
                first = next(read_rows(folder, split), None)
            except InvalidRequest:
                continue
            if first is not None:
                return read_rows(folder, split)
        return read_rows(folder, self.splits[-1])


def published(
    *, qwen2_5: float, qwen3: float, llava: float | None = None, gate: tuple[float, float]
) -> dict[Family, Thresholds]:
    """Collect a benchmark's published thresholds.

    Args:
        qwen2_5: tau_roi of Qwen2.5-VL.
        qwen3: tau_roi of Qwen3-VL.
        llava: tau_roi of LLaVA-1.5, which has no gate; None where it was not published.
        gate: tau_gate of Qwen2.5-VL and of Qwen3-VL.
    """
    found: dict[Family, Thresholds] = {
        "qwen2_5_vl": Thresholds(gate[0], qwen2_5),
        "qwen3_vl": Thresholds(gate[1], qwen3),
    }
    if llava is not None:
        found["llava"] = Thresholds(None, llava)
    return found


DOC_GATE, HIGH_RES_GATE = (0.05, 0.10), (0.02, 0.025)
