import numpy as np
import pytest

from training.labels.gate import Trajectory, choose_trajectories, consensus_wrong, draw
from training.labels.judge import is_right


def trajectory(right, answers=None, name="q"):
    answers = answers or ["right" if r else f"wrong {i}" for i, r in enumerate(right)]
    return Trajectory(name, "?", ("right",), tuple(answers), tuple(bool(r) for r in right))


@pytest.mark.parametrize(
    ("right", "kept"),
    [
        ([0, 0, 1, 1], True),
        ([1, 1, 1, 1], True),
        ([0, 0, 0, 1], True),
        ([0, 0, 0, 0], False),  # resolution is not what it lacks
        ([1, 0, 1, 1], False),  # right at low, wrong at higher: unstable
        ([0, 1, 0, 1], False),
        ([1, 1, 1, 0], False),
    ],
)
def test_only_step_functions_are_kept(right, kept):
    assert bool(choose_trajectories([trajectory(right)], "consistency", None, 0)) == kept
    assert len(choose_trajectories([trajectory(right)], "naive", None, 0)) == 1


def test_the_label_is_whether_the_drawn_resolution_was_wrong():
    step = trajectory([0, 0, 1, 1])
    drawn = [draw(step, "consistency", np.random.default_rng(i)) for i in range(60)]
    assert {d.budget for d in drawn} == {0, 1, 2, 3}
    assert all(d.label == int(not step.right[d.budget]) for d in drawn)
    only = [draw(step, "consistency", np.random.default_rng(i), [1, 2]) for i in range(20)]
    assert {d.budget for d in only} == {1, 2}


def test_the_naive_way_looks_at_the_lowest_resolution():
    for right, label in (([0, 1, 1], 1), ([1, 0, 0], 0)):
        found = draw(trajectory(right), "naive", np.random.default_rng(0))
        assert (found.budget, found.label) == (0, label)


def test_published_consensus():
    agree = ["no", "No.", "right", "right", "Right!"]
    assert consensus_wrong(trajectory([0, 0, 1, 1, 1], agree)) == [0, 1]
    assert consensus_wrong(trajectory([0] * 5, ["a", "b", "c", "right", "other"])) is None
    assert consensus_wrong(trajectory([0] * 5, ["a", "b", "c", "same", "same"])) is None
    assert consensus_wrong(trajectory([1, 0, 1, 1], ["right", "", "right", "right"])) == [1]


def test_published_draws_stay_near_the_step():
    hard = trajectory([0, 0, 0, 1, 1, 1])
    pairs = [draw(hard, "published", np.random.default_rng(i)) for i in range(300)]
    assert {(p.budget, p.label) for p in pairs} == {(1, 1), (2, 1), (3, 0)}
    assert 0.8 < np.mean([p.label for p in pairs]) < 0.97
    easy = trajectory([1, 1, 1, 1])
    pairs = [draw(easy, "published", np.random.default_rng(i)) for i in range(30)]
    assert {(p.budget, p.label) for p in pairs} == {(0, 0), (1, 0)}
    late = trajectory([0, 0, 1, 1])
    nothing = [draw(late, "published", np.random.default_rng(i)) for i in range(100)]
    assert None in nothing  # all right resolutions are among the top two


def test_easy_questions_are_at_most_as_many_as_hard_ones():
    data = [trajectory([0, 1, 1, 1], name=f"h{i}") for i in range(3)]
    data += [trajectory([1, 1, 1, 1], name=f"e{i}") for i in range(9)]
    assert len(choose_trajectories(data, "published", None, 0)) == 6
    assert len(choose_trajectories(data, "consistency", None, 0)) == 12
    assert len(choose_trajectories(data, "consistency", 2.0, 0)) == 9
    assert choose_trajectories(data, "published", None, 0) == choose_trajectories(
        data, "published", None, 0
    )


@pytest.mark.parametrize(
    ("answer", "match", "right"),
    [
        ("Right.", "exact", True),
        ("the right", "exact", False),
        ("the right one", "contains", True),
        ("", "contains", False),
        ("rigt", "anls", True),
        ("left", "anls", False),
    ],
)
def test_judging(answer, match, right):
    assert is_right(answer, ["right"], match) == right
