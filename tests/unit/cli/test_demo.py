import numpy as np
import pytest

from cli.answer import Answered
from cli.demo import Report, _same
from cli.examples import QUESTIONS, examples
from qzoom.data.splits import RANGE_SIZE, scene_seed


def test_examples_need_both_routes_and_know_their_answers():
    asked = list(examples())
    assert len(asked) == len(QUESTIONS)
    assert {example.route for example in asked} == {"direct", "zoom"}
    assert all(example.expected and example.question for example in asked)
    assert len({example.name for example in asked}) == len(asked)


def test_examples_are_drawn_from_seeds_outside_training():
    for number, _, _ in QUESTIONS:
        assert scene_seed("test", number) >= 2 * RANGE_SIZE


def test_examples_are_the_same_every_time():
    first, second = list(examples()), list(examples())
    for one, two in zip(first, second, strict=True):
        assert (one.question, one.expected) == (two.question, two.expected)
        assert (np.asarray(one.picture) == np.asarray(two.picture)).all()


@pytest.mark.parametrize(("holds", "code"), [(True, 0), (False, 1)])
def test_a_failed_expectation_is_the_exit_code(holds, code, capsys):
    report = Report()
    report.expect("water is wet", True)
    report.expect("the moon is cheese", holds)
    assert report.show() == code
    assert ("the moon is cheese" in capsys.readouterr().out) is not holds


def test_answers_are_compared_without_case_and_blanks():
    assert _same(" Red\n", "red")
    assert not _same("1388", "138")


def test_an_answer_says_what_the_overlay_draws():
    answered = Answered("7", "zoom", 0.9, 0.5, (1, 2, 3, 4), 0.8, {"coarse": 1, "roi": 2}, {})
    look = answered.look("?")
    assert (look.question, look.answer, look.box_px) == ("?", "7", (1, 2, 3, 4))
