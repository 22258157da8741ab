import pytest

from qzoom.errors import InvalidRequest
from qzoom.metrics.choice import chosen_letter, multiple_choice, yes_or_no
from qzoom.metrics.contain import contains, contains_formula
from qzoom.metrics.intervals import bootstrap_difference
from qzoom.metrics.relaxed import relaxed_accuracy
from qzoom.metrics.scoring import final_answer, metric
from qzoom.metrics.vqa import normalize_vqa, vqa_accuracy


@pytest.mark.parametrize(
    ("answer", "truth", "score"),
    [
        ("104.9", "100", 1), ("105.1", "100", 0), ("-95", "-100", 1), ("95", "-100", 0),
        ("45%", "0.45", 1), ("0.44", "45%", 1), ("45", "45%", 0), ("Blue", "blue", 1),
        ("blue", "blues", 0), ("0", "0", 1), ("0.01", "0", 0), ("nan", "5", 0), ("inf", "inf", 1),
        (" 7 ", "7", 1), ("2019", "2010", 1), ("", "3", 0), ("%", "%", 1),
    ],
)  # fmt: skip
def test_relaxed_accuracy(answer, truth, score):
    assert relaxed_accuracy(answer, [truth]) == score


def test_relaxed_accuracy_takes_the_best_truth():
    assert relaxed_accuracy("12", ["100", "12"]) == 1


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The  Red Cars!", "red cars"), ("two", "2"), ("None", "0"), ("an A", ""),
        ("don't", "don't"), ("dont", "don't"), ("shouldnt've", "shouldn't've"),
        ("1,000", "1000"), ("3.50", "3.50"), ("St. John", "st john"), ("a-b", "b"),
        ("well-known", "well known"), ("well- known", "well known"), ("john's", "john 's"),
        ("x/y?", "x y"), ("\tnew\nline", "new line"),
    ],
)  # fmt: skip
def test_vqa_normalisation(text, plain):
    assert normalize_vqa(text) == plain


def test_vqa_accuracy_counts_the_people_who_agree():
    assert vqa_accuracy("dog", ["dog"] * 10) == 1.0
    assert vqa_accuracy("dog", ["cat"] * 10) == 0.0
    # three of ten: 0.9 x full marks for those who disagree, 2/3 for those three themselves
    assert vqa_accuracy("Dog", ["dog"] * 3 + ["cat"] * 7) == pytest.approx(0.7 + 0.3 * 2 / 3)
    assert vqa_accuracy("dog", ["dog"] + ["cat"] * 9) == pytest.approx(0.9 / 3)
    assert vqa_accuracy("dog", ["the dog"]) == 1.0
    assert vqa_accuracy("dog", []) == 0.0


def test_containment():
    assert contains("It says\nHELLO world", ["hello"]) == 1
    assert contains("hell", ["hello"]) == 0
    assert contains("ABC 12", ["abc 12"]) == 1  # full-width forms, as OCR of Chinese gives
    assert contains_formula("x ^ 2 + Y", ["x^2+Y"]) == 1
    assert contains_formula("x^2+y", ["x^2+Y"]) == 0


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"), ("b", "B"), ("(C)", "C"), ("C.", "C"), ("D) blue", "D"), ("**A**", "A"),
        ("The answer is B.", "B"), ("Answer: C", "C"), ("I would choose option (D)", "D"),
        ("It is B, I think", "B"), ("A red car", "A"), ("A blue car", "B"), ("green", "C"),
        ("red or blue", ""), ("neither", ""), ("", ""), ("E", ""), ("B or C", "B"),
        ("either B or C", ""), ("Because", ""), ("a cat", ""), ("I don't know", ""),
    ],
)  # fmt: skip
def test_chosen_letter(answer, letter):
    choices = ("red", "blue", "green", "yellow")
    assert chosen_letter(answer, choices) == letter
    assert multiple_choice(answer, [letter or "A"], choices) == float(bool(letter))


def test_a_truth_may_be_written_with_brackets():
    assert multiple_choice("B", ["(B)"]) == 1
    assert multiple_choice("E", ["E"], 5) == 1


@pytest.mark.parametrize(
    ("answer", "says"),
    [("Yes", "yes"), ("yes, it is", "yes"), ("No.", "no"), ("n", "no"), ("y", "yes"),
     ("Not at all", "no"), ("Maybe", ""), ("", ""), ("it says no", "")],
)  # fmt: skip
def test_yes_or_no(answer, says):
    assert yes_or_no(answer, ["yes"]) == float(says == "yes")
    assert yes_or_no(answer, ["No"]) == float(says == "no")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" 42 ", "42"), ("I think <answer> 42 </answer>.", "42"),
        ("<answer>1</answer> no, <ANSWER>2\n</ANSWER>", "2"),
        (r"so \boxed{42}", "42"), (r"so \boxed{\frac{1}{2}} then", r"\frac{1}{2}"),
        (r"\boxed{open", r"\boxed{open"), ("<answer>open", "<answer>open"),
    ],
)  # fmt: skip
def test_final_answer(text, answer):
    assert final_answer(text) == answer


def test_metrics_have_names():
    assert metric("anls")("4071", ["4072"]) == 0.75
    with pytest.raises(InvalidRequest, match="must be one of exact_match, anls"):
        metric("bleu")


def test_paired_difference():
    gain = bootstrap_difference([1, 1, 0, 1] * 50, [0, 1, 0, 1] * 50)
    assert gain.value == 0.25
    assert 0 < gain.low < 0.25 < gain.high
    with pytest.raises(ValueError, match="zip"):
        bootstrap_difference([1], [1, 0])
