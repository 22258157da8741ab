"""How much is labelled, trained and asked? Named, so that figures say what they were made with."""

from dataclasses import dataclass

from qzoom.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Schedule:
    """Sizes of one ablation.

    Attributes:
        name: On the command line and in reports.
        pictures: Training pictures that are labelled.
        rpn_steps: Steps of each RPN.
        gate_steps: Steps of each gate.
        questions: Test questions of each variant.
        seeds: Repetitions where the paper's claim is about a difference (Fig. 9).
    """

    name: str
    pictures: int
    rpn_steps: int
    gate_steps: int
    questions: int
    seeds: int


SCHEDULES = {
    schedule.name: schedule
    for schedule in (
        Schedule("smoke", pictures=8, rpn_steps=3, gate_steps=3, questions=8, seeds=2),
        Schedule("short", pictures=256, rpn_steps=300, gate_steps=200, questions=300, seeds=3),
        Schedule("full", pictures=2048, rpn_steps=1200, gate_steps=600, questions=1000, seeds=5),
    )
}


def find_schedule(name: str) -> Schedule:
    """Look a schedule up.

    Raises:
        InvalidRequest: If there is none of that name.
    """
    if name not in SCHEDULES:
        raise InvalidRequest(f"schedule is {name!r}, must be one of {', '.join(SCHEDULES)}")
    return SCHEDULES[name]
