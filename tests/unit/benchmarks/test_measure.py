import pytest

from benchmarks.measure import interleave, ratios, spread


def test_spread_needs_two_measurements() -> None:
    assert spread([0.001, 0.002, 0.003]).scaled(1e3).median == pytest.approx(2.0)
    with pytest.raises(ValueError, match="no spread"):
        spread([0.001])


def test_cases_run_in_turn_and_the_first_round_does_not_count() -> None:
    order: list[str] = []
    cases = {name: lambda name=name: order.append(name) for name in ("one", "two")}
    found = interleave(cases, 3)
    assert order == ["one", "two"] * 4
    assert {name: len(costs) for name, costs in found.items()} == {"one": 3, "two": 3}


def test_ratios_compare_round_by_round() -> None:
    # Each round is twice as slow as the one before; the ratio stays.
    assert ratios([2.0, 4.0, 8.0], [1.0, 2.0, 4.0]).text(1) == "2.0 (2.0-2.0)"
