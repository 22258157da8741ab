"""VQA accuracy: how many of the ten people who were asked said the same?

TextVQA's evaluation compares after a normalisation of its own, kept here with its oddities, since
figures are only comparable under the same one.
"""

import re
from collections.abc import Sequence

AGREEING = 3
"""People who must agree for full marks."""

_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"(?<=\d),+(?=\d)")
_PERIOD = re.compile(r"\.(?!\d)")

_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't
    mightn't've might've mustn't must've needn't not've o'clock oughtn't shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
    what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
    why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll
    you're you've
"""


def _misspellings(word: str) -> set[str]:
    """The ways to write a contraction with at least one apostrophe left out."""
    found = {""}
    for char in word:
        with_char = {start + char for start in found}
        found = with_char | found if char == "'" else with_char
    return found - {word}


_SPELLING = {wrong: word for word in _CONTRACTED.split() for wrong in _misspellings(word)}


def normalize_vqa(text: str) -> str:
    """Lower-case; without articles and most punctuation; digits for number words up to ten."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    text = _without_punctuation(" ".join(text.split()))
    words = [_NUMBERS.get(word, word) for word in text.split()]
    return " ".join(_SPELLING.get(word, word) for word in words if word not in _ARTICLES)


def _without_punctuation(text: str) -> str:
    """Drop marks that stand at a word's edge, and put a space for those between words."""
    cleaned = text
    for mark in _PUNCTUATION:
        at_an_edge = f"{mark} " in text or f" {mark}" in text or _COMMA_IN_NUMBER.search(text)
        cleaned = cleaned.replace(mark, "" if at_an_edge else " ")
    return _PERIOD.sub("", cleaned)


def vqa_accuracy(answer: str, truths: Sequence[str]) -> float:
    """Score one answer against what several people said.

    For each person, the share of agreement with the others, at most 1; then the mean.

    Returns:
        A value in [0, 1]; with a single truth 1.0 or 0.0.
    """
    given, said = normalize_vqa(answer), [normalize_vqa(truth) for truth in truths]
    if len(said) <= 1:
        return float(given in said)
    agreeing = sum(truth == given for truth in said)
    without_self = (min(1.0, (agreeing - (truth == given)) / AGREEING) for truth in said)
    return sum(without_self) / len(said)
