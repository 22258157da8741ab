"""What the multiple-choice benchmarks share: options, letters, their judge."""

from collections.abc import Sequence

from qzoom.data.readers.fields import text_of
from qzoom.data.readers.folders import Row
from qzoom.data.readers.problems import BadRecord
from qzoom.data.record import Record
from qzoom.metrics.choice import multiple_choice


def choice_score(record: Record, answer: str) -> float:
    """Judge the letter that an answer chooses."""
    return multiple_choice(answer, record.answers, record.choices or 4)


def letter_of(row: Row, name: str, choices: Sequence[str] | int) -> str:
    """Return the right option's letter.

    Raises:
        BadRecord: If it is no letter of an option.
    """
    letter = text_of(row, name).strip("() .\n").upper()
    count = choices if isinstance(choices, int) else len(choices)
    if len(letter) != 1 or not 0 <= ord(letter) - ord("A") < count:
        raise BadRecord(f"{name} is no letter of one of {count} options", repr(letter)[:20])
    return letter
