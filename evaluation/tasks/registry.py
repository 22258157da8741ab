"""All benchmarks by name."""

from pathlib import Path

from evaluation.dataset import DataSet
from evaluation.tasks.chartqa import CHARTQA
from evaluation.tasks.documents import DOCVQA, INFOVQA
from evaluation.tasks.hrbench import HRBENCH_4K, HRBENCH_8K
from evaluation.tasks.mme import MME
from evaluation.tasks.mme_realworld import MME_REALWORLD
from evaluation.tasks.mmstar import MMSTAR
from evaluation.tasks.ocrbench import OCRBENCH
from evaluation.tasks.task import Task
from evaluation.tasks.textvqa import TEXTVQA
from evaluation.tasks.vstar import VSTAR
from qzoom.errors import InvalidRequest

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        DOCVQA,
        INFOVQA,
        CHARTQA,
        OCRBENCH,
        TEXTVQA,
        VSTAR,
        HRBENCH_4K,
        HRBENCH_8K,
        MME_REALWORLD,
        MME,
        MMSTAR,
    )
}


def find_task(name: str) -> Task:
    """Look a benchmark up.

    Raises:
        InvalidRequest: If there is none of that name.
    """
    if name not in TASKS:
        raise InvalidRequest(f"task is {name!r}, must be one of {', '.join(TASKS)}")
    return TASKS[name]


def open_task(name_and_folder: str, questions: int | None = None) -> tuple[Task, DataSet]:
    """Open NAME:FOLDER.

    Raises:
        NotFound: If there is no such folder.
        InvalidRequest: If the name is unknown, or the folder holds no record of it.
    """
    name, colon, folder = name_and_folder.partition(":")
    task = find_task(name)
    if not colon or not folder:
        raise InvalidRequest(f"task is {name_and_folder!r}, must be {name}:FOLDER")
    return task, task.open(Path(folder), questions)
