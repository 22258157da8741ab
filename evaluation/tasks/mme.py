"""MME (test): pairs of yes/no questions, scored per picture.

Layout of lmms-lab/MME: `data/test-*.parquet` with question_id, image, question, answer, category.
A category scores its accuracy plus the share of pictures with both answers right, in percent
(up to 200); the published figure is the sum over the ten categories of perception.
"""

from collections import defaultdict
from collections.abc import Sequence

from evaluation.dataset import by_metric
from evaluation.results import Result
from evaluation.tasks.task import Task
from qzoom.data.readers.fields import text_of
from qzoom.data.readers.folders import Row, image_of
from qzoom.data.readers.images import ImageFolder
from qzoom.data.readers.problems import BadRecord
from qzoom.data.record import Record
from qzoom.metrics.choice import yes_or_no

COGNITION = {"commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"}
_OWN_PROMPT = " Please answer yes or no."


def _record(row: Row, where: str, images: ImageFolder) -> Record:
    truth = text_of(row, "answer").strip(" .").lower()
    if truth not in {"yes", "no"}:
        raise BadRecord("answer is neither yes nor no", truth[:20])
    return Record(
        id=f"{text_of(row, 'question_id')}#{where}",
        picture=image_of(row, images, "image"),
        question=text_of(row, "question").strip().replace(_OWN_PROMPT, ""),
        answers=(truth,),
        group=text_of(row, "category"),
        domain="General",
    )


def _figures(results: Sequence[Result]) -> dict[str, float]:
    by_category: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        by_category[result.group][result.id.rpartition("#")[0]].append(result.score)
    totals = {"perception": 0.0, "cognition": 0.0}
    for category, pictures in by_category.items():
        answers = [score for scores in pictures.values() for score in scores]
        both = sum(min(scores) for scores in pictures.values()) / len(pictures)
        part = "cognition" if category in COGNITION else "perception"
        totals[part] += 100 * (sum(answers) / len(answers) + both)
    return totals


MME = Task(
    name="mme",
    title="MME, test",
    domain="General",
    splits=("test", ""),
    to_record=_record,
    score=by_metric(yes_or_no),
    metric="yes/no",
    max_tokens=16,
    figures=_figures,
)
