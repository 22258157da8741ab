"""Cost is shed before requests, step by step, and what the client chose stays."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.brownout import (
    UNCALIBRATED_TAU,
    BrownoutBounds,
    BrownoutState,
    begins_at,
    controlled,
    highest_tau,
    relieved,
)
from qzoom.builtin import builtin_model
from qzoom.contracts.budget import ImageRules
from qzoom.contracts.calibration import CALIBRATION_FILE
from qzoom.contracts.options import Options
from qzoom.contracts.status import ModelFacts
from qzoom.model.loading import CheckpointError, open_checkpoint
from services.gate.facts import model_facts

BOUNDS = BrownoutBounds(
    steps=4,
    starts_at=0.7,
    hysteresis=0.15,
    hold_s=5.0,
    rise_s=0.5,
    max_tau_gate=0.9,
    min_roi_share=0.5,
)
TICK_S = 0.1


def facts(*, has_gate=True, has_rpn=True, fixed_grid=None, accuracy_by_tau=()):
    return ModelFacts(
        "qwen2_5_vl",
        "0",
        has_gate,
        has_rpn,
        tau_gate=0.5,
        tau_roi=0.1,
        cell_px=28,
        rules=ImageRules(28, fixed_grid, fetch_resize=False, min_tokens=16, max_tokens=64),
        max_roi_tokens=48,
        kv_bytes_per_token=1024,
        visual_bytes_per_token=256,
        state_bytes_per_token=512,
        accuracy_by_tau=accuracy_by_tau,
    )


CURVE = ((0.0, 0.80), (0.5, 0.79), (0.6, 0.78), (0.7, 0.765), (0.8, 0.79), (1.0, 0.6))


def run(pressures, state=None, now=0.0):
    """Feed one pressure each tick; return the levels."""
    state, levels = state or BrownoutState(), []
    for pressure in pressures:
        state = controlled(state, pressure, now, BOUNDS)
        levels.append(state.level)
        now += TICK_S
    return levels


def test_levels_begin_evenly_and_the_last_one_where_the_queue_does():
    assert [begins_at(level, BOUNDS) for level in (1, 2, 3, 4)] == pytest.approx(
        [0.7, 0.8, 0.9, 1.0]
    )


def test_rising_load_climbs_one_level_at_a_time_to_the_last():
    levels = run([i / 200 for i in range(260)])
    assert set(levels) == {0, 1, 2, 3, 4}
    assert all(b - a in {0, 1} for a, b in pairwise(levels))
    # No level is entered before its pressure is there.
    for level in (1, 2, 3, 4):
        assert levels.index(level) / 200 >= begins_at(level, BOUNDS)


def test_a_short_peak_changes_nothing():
    assert set(run([0.2, 1.5, 1.5, 0.2] * 20)) == {0}


def test_falling_load_is_believed_later_than_rising_load():
    top = BrownoutState(4)
    levels = run([0.1] * 250, top)
    assert levels[0] == 4
    assert levels[-1] == 0
    for level in (3, 2, 1, 0):
        assert levels.index(level) * TICK_S == pytest.approx(BOUNDS.hold_s * (4 - level), abs=0.5)


def test_load_that_hovers_at_a_threshold_does_not_make_it_flutter():
    up_and_down = [0.82 if i // 10 % 2 else 0.74 for i in range(400)]
    levels = run(up_and_down)
    assert sum(a != b for a, b in pairwise(levels)) == 2  # 0 -> 1 -> 2


def test_fewer_steps_by_the_operator_count_at_once():
    assert controlled(BrownoutState(9), 1.0, 0.0, BOUNDS).level == 4
    assert controlled(BrownoutState(4), 1.0, 0.0, BrownoutBounds(steps=0)).level == 0


@given(st.lists(st.floats(0, 3), max_size=200))
def test_the_level_stays_within_its_bounds_whatever_happens(pressures):
    assert all(0 <= level <= BOUNDS.steps for level in run(pressures))


@pytest.mark.parametrize("level", [0, 1, 2, 3, 4])
def test_a_level_raises_tau_and_lowers_the_budget_of_the_roi_within_bounds(level):
    options = relieved(Options(), facts(), level, BOUNDS)
    if level == 0:
        assert options == Options()
        return
    assert options.tau_gate == pytest.approx(0.5 + 0.1 * level)
    assert options.max_roi_tokens == 48 - 6 * level


@pytest.mark.parametrize(
    ("asked", "unchanged"),
    [
        (Options(tau_gate=0.2), ["tau_gate", "route"]),
        (Options(max_roi_tokens=48), ["max_roi_tokens"]),
        (Options(route="zoom"), ["route", "tau_gate"]),
        (Options(route="direct"), ["route", "tau_gate", "max_roi_tokens"]),
        (Options(max_visual_tokens=16), ["max_visual_tokens"]),
    ],
)
def test_what_the_client_chose_is_never_changed(asked, unchanged):
    options = relieved(asked, facts(), 4, BOUNDS)
    for name in unchanged:
        assert getattr(options, name) == getattr(asked, name)


def test_nothing_is_changed_that_the_model_does_not_have():
    assert relieved(Options(), facts(has_gate=False), 4, BOUNDS).tau_gate is None
    assert relieved(Options(), facts(fixed_grid=(24, 24)), 4, BOUNDS).max_roi_tokens is None
    assert relieved(Options(), facts(has_rpn=False), 4, BOUNDS).max_roi_tokens is None


def test_a_model_that_zooms_more_rarely_keeps_its_tau():
    bounds = BrownoutBounds(max_tau_gate=0.3)
    assert relieved(Options(), facts(), 4, bounds).tau_gate == 0.5


@pytest.mark.parametrize(
    ("max_loss", "highest"),
    [(0.0, 0.5), (0.01, 0.6), (0.02, 0.6), (0.03, 0.8), (0.19, 1.0), (1.0, 1.0)],
)
def test_the_threshold_rises_as_far_as_the_calibration_allows(max_loss, highest):
    told, bounds = facts(accuracy_by_tau=CURVE), BrownoutBounds(max_loss=max_loss)
    assert highest_tau(told, bounds) == highest
    assert relieved(Options(), told, bounds.steps, bounds).tau_gate == pytest.approx(highest)


def test_loss_counts_from_the_threshold_that_the_operator_set_meanwhile():
    told = replace(facts(accuracy_by_tau=CURVE), tau_gate=0.75)
    # Served at .765, as at .7: the fall from .8 on is no loss that brown-out causes.
    assert highest_tau(told, BrownoutBounds(max_loss=0.01)) == 0.8
    assert highest_tau(replace(told, tau_gate=1.0), BrownoutBounds(max_loss=0.01)) == 1.0


def test_what_the_operator_says_counts_more_than_the_calibration():
    told = facts(accuracy_by_tau=CURVE)
    assert highest_tau(told, BrownoutBounds(max_tau_gate=0.95, max_loss=0.0)) == 0.95
    assert highest_tau(told, BrownoutBounds(max_tau_gate=0.1)) == told.tau_gate


def test_a_model_without_calibration_has_the_default_bound():
    assert highest_tau(facts(), BrownoutBounds(max_loss=0.0)) == UNCALIBRATED_TAU


def test_the_built_in_model_brings_its_curve():
    checkpoint = open_checkpoint(builtin_model())
    told = model_facts(checkpoint, torch.float32)
    assert told.accuracy_by_tau
    highest = highest_tau(told, BrownoutBounds())
    assert told.tau_gate < highest < 1.0
    by_tau = dict(told.accuracy_by_tau)
    assert by_tau[highest] >= by_tau[told.tau_gate] - BrownoutBounds().max_loss


def test_a_curve_of_other_weights_does_not_count(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(builtin_model(), folder)
    config = json.loads((folder / "config.json").read_text())
    config["qzoom"]["tau_gate"] = 0.25
    (folder / "config.json").write_text(json.dumps(config))
    assert model_facts(open_checkpoint(folder), torch.float32).accuracy_by_tau == ()


def test_a_broken_curve_is_a_broken_checkpoint(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(builtin_model(), folder)
    (folder / CALIBRATION_FILE).write_text("{")
    with pytest.raises(CheckpointError, match=r"calibration\.json cannot be read"):
        model_facts(open_checkpoint(folder), torch.float32)
