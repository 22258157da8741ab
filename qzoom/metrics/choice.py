"""Which option did the model choose? Letters of multiple choice, and yes or no."""

import re
import string
from collections.abc import Sequence

_LEAD = re.compile(
    r"\b(?:answer|option|choice)\b(?:\s+is)?\s*[:=]?\s*\(?([A-Z])\b(?!')", re.IGNORECASE
)
_ALONE = re.compile(r"(?<![A-Za-z])(A(?! [a-z])|[B-Z])(?![A-Za-z'])")


def chosen_letter(answer: str, choices: Sequence[str] | int = 4) -> str:
    """Find the letter that an answer chooses.

    In this order: the answer starts with a letter that stands alone; it says "answer: B" or the
    like; exactly one letter stands alone; exactly one option's text occurs.

    Args:
        answer: Free text, such as "B", "(B) red", "The answer is B." or "red".
        choices: Texts of the options, or how many there are.

    Returns:
        An upper-case letter, or "" where the answer does not choose.
    """
    count = choices if isinstance(choices, int) else len(choices)
    letters = string.ascii_uppercase[:count]
    text = answer.strip()
    bare = text.lstrip("([*\"'` ")
    if bare[:1].upper() in letters and bare[:1] and not bare[1:2].isalnum():
        # "A red car" begins with an article, "A." or "A)" with a choice.
        is_article = bare[:1].upper() == "A" and bare[1:2] == " " and bare[2:3].isalpha()
        if not is_article:
            return bare[0].upper()
    if (lead := _LEAD.search(text)) and lead[1].upper() in letters:
        return lead[1].upper()
    alone = sorted({str(letter) for letter in _ALONE.findall(text) if letter in letters})
    if len(alone) == 1:
        return alone[0]
    if isinstance(choices, int):
        return ""
    named = [i for i, choice in enumerate(choices) if choice and choice.lower() in text.lower()]
    return letters[named[0]] if len(named) == 1 else ""


def multiple_choice(answer: str, truths: Sequence[str], choices: Sequence[str] | int = 4) -> float:
    """1.0 if the chosen letter is the right one (`truths` holds letters), else 0.0."""
    chosen = chosen_letter(answer, choices)
    return float(bool(chosen) and chosen in {truth.strip("() .").upper() for truth in truths})


def yes_or_no(answer: str, truths: Sequence[str]) -> float:
    """MME's rule: the first four characters decide.

    Returns:
        1.0 if they say what the truth says, else 0.0; an answer that says neither is wrong.
    """
    text = answer.lower().strip().replace(".", "")
    says = {"y": "yes", "n": "no"}.get(text)
    if says is None:
        says = next((word for word in ("yes", "no") if word in text[:4]), "")
    return float(says in {truth.lower().strip(" .") for truth in truths})
