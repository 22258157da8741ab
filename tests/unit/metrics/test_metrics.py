import pytest

from qzoom.metrics.intervals import bootstrap_mean
from qzoom.metrics.match import anls, edit_distance, exact_match, normalize


def test_exact_match_ignores_case_punctuation_and_spaces() -> None:
    assert exact_match(" Top-Left. ", ["topleft"]) == 1.0
    assert exact_match("4071", ["4017", "4170"]) == 0.0
    assert normalize("A  red,  star!") == "a red star"


@pytest.mark.parametrize(
    ("a", "b", "distance"), [("", "", 0), ("", "ab", 2), ("kitten", "sitting", 3), ("ab", "ba", 2)]
)
def test_edit_distance(a: str, b: str, distance: int) -> None:
    assert edit_distance(a, b) == edit_distance(b, a) == distance


def test_anls_takes_the_best_truth_and_drops_low_similarities() -> None:
    assert anls("4071", ["4072", "9999"]) == 0.75
    assert anls("4071", ["8265"]) == 0.0


def test_interval_holds_the_mean_and_narrows_with_more_values() -> None:
    few, many = bootstrap_mean([0.0, 1.0] * 10), bootstrap_mean([0.0, 1.0] * 1000)
    assert few.low < few.value == many.value == 0.5 < few.high
    assert many.high - many.low < 0.2 * (few.high - few.low)


def test_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        bootstrap_mean([])
