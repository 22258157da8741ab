"""What is asked, how, and what counts as right: a data set ready to be evaluated on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from evaluation.results import Result
from qzoom.contracts.conversation import Conversation
from qzoom.data.dataset import SEED_STRIDE
from qzoom.data.readers import Problems
from qzoom.data.record import Record
from qzoom.data.records import iter_records
from qzoom.errors import InvalidRequest
from qzoom.metrics.scoring import Metric, final_answer, metric

ANSWER_TOKENS = 16
SCENE_CELL_PX = 28
HIGH_RES_TOKENS = 1024
"""Pictures of at least so many tokens at full resolution count as High-Res."""

Score = Callable[[Record, str], float]
"""(record, post-processed answer) -> score in [0, 1]."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """Questions with all that is needed to ask and to judge them.

    Attributes:
        name: In reports.
        records: The questions; each has at least one right answer.
        score: Judges an answer.
        metric: Name of the metric, in reports.
        suffix: Put after every question that does not hold it yet.
        max_tokens: Most tokens of an answer.
        limits: (fewest, most) visual tokens that the benchmark's published runs use; None leaves
            them to the model.
        post: Takes the answer out of the text.
        skipped: What the reader skipped.
        figures: The benchmark's own totals over the results of one mode.
    """

    name: str
    records: Sequence[Record]
    score: Score
    metric: str
    suffix: str = ""
    max_tokens: int = ANSWER_TOKENS
    limits: tuple[int, int] | None = None
    post: Callable[[str], str] = final_answer
    skipped: Problems = field(default_factory=Problems)
    figures: Callable[[Sequence[Result]], dict[str, float]] | None = None

    def conversation(self, record: Record) -> Conversation:
        """The turns of a record with the prompt of this data set."""
        return record.conversation(self.suffix)


def by_metric(found: Metric) -> Score:
    """Judge by the right answers of the record alone."""
    return lambda record, answer: found(answer, record.answers)


def open_dataset(
    name: str,
    *,
    questions: int | None = None,
    metric_name: str = "exact_match",
    suffix: str = "",
    max_tokens: int = ANSWER_TOKENS,
    split: str = "",
    image_root: Path | None = None,
) -> DataSet:
    """Open any data set but a named task.

    Args:
        name: As `qzoom.data.records.iter_records` takes it.
        questions: Take so many and no more; None takes all.
        metric_name: What counts as right.
        suffix: Put after every question.
        max_tokens: Most tokens of an answer.
        split: Split of a Hugging Face folder.
        image_root: Folder of pictures that are given by path.

    Raises:
        NotFound: If there is no such data set.
        InvalidRequest: If it holds no question with an answer.
    """
    judged = metric(metric_name)
    problems = Problems()
    if questions is not None and name.startswith("builtin:") and "count=" not in name:
        # A picture has at least one question, and no more pictures are drawn than are needed.
        drawn = f"{name}{'&' if '?' in name else '?'}count={min(questions, SEED_STRIDE)}"
    else:
        drawn = name
    found = iter_records(drawn, problems, split=split, image_root=image_root)
    records = list(islice((r for r in found if r.answers), questions))
    if not records:
        raise InvalidRequest(f"{name} holds no question with an answer; {problems}")
    return DataSet(
        name=name,
        records=records,
        score=by_metric(judged),
        metric=metric_name,
        suffix=suffix,
        max_tokens=max_tokens,
        skipped=problems,
    )


def size_domain(size_px: tuple[int, int]) -> str:
    """Family of a picture that belongs to no benchmark: by its tokens at full resolution."""
    width, height = (max(1, round(side / SCENE_CELL_PX)) for side in size_px)
    is_large = width * height >= HIGH_RES_TOKENS
    return f"{'>=' if is_large else '<'} {HIGH_RES_TOKENS:,} tokens"
