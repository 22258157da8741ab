import pytest

from evaluation.pareto import curves, domains, frontier, speed_up
from evaluation.plots import plot_bars, plot_pareto
from evaluation.results import Run
from evaluation.summary import summarize


@pytest.fixture
def run(result):
    """Base: .5 at 10 ms, .6 at 20 ms, .8 at 80 ms; auto: .7 at 15 ms, .9 at 20 ms."""
    cells = [
        ("base", 36, 5, 0.01, 36), ("base", 72, 6, 0.02, 72), ("base", 324, 8, 0.08, 324),
        ("auto", 36, 7, 0.015, 50), ("auto", 72, 9, 0.02, 90),
    ]  # fmt: skip
    results = []
    for kind, budget, right, cpu_s, tokens in cells:
        for number in range(10):
            results.append(
                result(
                    mode=f"{kind}@{budget}", kind=kind, budget=budget, id=str(number),
                    score=float(number < right), cpu_s=cpu_s, coarse_tokens=tokens, roi_tokens=0,
                    domain="Doc/OCR" if number % 2 else "High-Res",
                )
            )  # fmt: skip
    return Run({}, results)


def test_speed_up_is_taken_at_the_bases_best_accuracy(run):
    found = speed_up(run)
    assert (found.base.budget, found.matched.budget) == (324, 72)
    assert found.speed_up.value == pytest.approx(4.0)
    assert found.speed_up.low == pytest.approx(4.0)
    assert found.token_reduction == pytest.approx(1 - 90 / 324)
    assert found.gain.value == pytest.approx(0.1)
    assert found.base_rises


def test_a_tolerance_lets_a_faster_point_match(run):
    found = speed_up(run, tolerance=0.11)
    assert found.matched.budget == 36
    assert found.speed_up.value == pytest.approx(0.08 / 0.015)


def test_no_point_matches_a_better_base(run, result):
    perfect = [result(mode="base@999", kind="base", budget=999, id=str(n), cpu_s=1.0,
                      domain="High-Res") for n in range(10)]  # fmt: skip
    found = speed_up(Run({}, [*run.results, *perfect]))
    assert found.matched is None
    assert found.speed_up is None
    assert found.gain.value == pytest.approx(-0.1)


def test_a_base_that_falls_is_reported(run, result):
    worse = [result(mode="base@999", kind="base", budget=999, id=str(n), score=0.0, cpu_s=1.0,
                    domain="High-Res") for n in range(10)]  # fmt: skip
    found = speed_up(Run({}, [*run.results, *worse]))
    assert not found.base_rises
    assert found.base.budget == 324


def test_nothing_is_compared_without_cost_or_curve(run, result):
    assert speed_up(run, kind="zoom") is None
    assert speed_up(Run({}, [result(kind="base", cpu_s=None), result(cpu_s=None)])) is None


def test_curves_of_a_domain_have_its_questions_only(run):
    assert domains(run) == ["all", "Doc/OCR", "High-Res"]
    points = curves(run, "Doc/OCR")["base"]
    assert [p.budget for p in points] == [36, 72, 324]
    assert points[0].accuracy.count == 5


def test_frontier_drops_points_that_another_beats(run):
    every = [p for points in curves(run).values() for p in points]
    assert [p.budget for p in frontier(every)] == [36, 36, 72]


def test_pictures_are_written(run, tmp_path):
    plot_pareto({d: curves(run, d) for d in domains(run)}, tmp_path / "p.png")
    plot_bars([summarize(part) for part in run.modes().values()], tmp_path / "b.png")
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("p.png", "b.png"))
