import json
import shutil

import pytest
from typer.testing import CliRunner

from cli.main import app
from evaluation.calibrate import Measured, calibrate
from qzoom.builtin import builtin_model
from qzoom.contracts.calibration import (
    CALIBRATION_FILE,
    Calibration,
    highest_tau_gate,
    load_calibration,
)
from qzoom.errors import InvalidRequest
from qzoom.model.loading import open_checkpoint


@pytest.fixture
def measured(result):
    """Ten questions; the gate orders them; the four highest are right only when zoomed.

    At tau_roi .3 zooming spoils the two lowest, at .6 it finds nothing.
    """
    direct, good, blind = [], [], []
    for i in range(10):
        p, needs = i / 10, i >= 6
        plain = result(
            id=str(i), score=float(not needs), route="direct", roi_tokens=0, p_refine=None,
            box_px=None, needs_detail=needs,
        )  # fmt: skip
        direct.append(plain)
        good.append(result(id=str(i), score=float(i >= 2), p_refine=p, needs_detail=needs))
        blind.append(result(id=str(i), score=float(not needs), route="direct", roi_tokens=0,
                            p_refine=p, box_px=None, needs_detail=needs))  # fmt: skip
    return Measured(direct, {0.3: good, 0.6: blind})


def test_thresholds_are_the_cheapest_among_the_best(measured):
    found = calibrate(measured, data="val", metric="exact_match")
    assert found.tau_roi == 0.3
    assert found.tau_gate == pytest.approx(0.55)
    assert found.chosen.accuracy == 1.0
    assert found.chosen.zoom_share == 0.4
    assert found.chosen.visual_tokens == pytest.approx(36 + 0.4 * 36)
    ends = found.gate_curve[0], found.gate_curve[-1]
    assert [(p.tau_gate, p.accuracy) for p in ends] == [(0.0, 0.8), (1.0, 0.6)]
    assert [p.tau_roi for p in found.roi_curve] == [0.3, 0.6]
    assert found.roi_curve[0].box_recall == 1.0
    assert found.roi_curve[1].box_area is None


def test_accuracy_may_be_given_up_for_tokens(measured):
    found = calibrate(measured, data="val", metric="exact_match", tolerance=0.25)
    assert found.chosen.accuracy == pytest.approx(0.8)
    assert found.chosen.zoom_share == pytest.approx(0.2)


def test_bounds_follow_from_the_curve(measured):
    found = calibrate(measured, data="val", metric="exact_match")
    assert highest_tau_gate(found.accuracy_by_tau, found.tau_gate, 0.0) == pytest.approx(0.55)
    assert highest_tau_gate(found.accuracy_by_tau, found.tau_gate, 0.1) == pytest.approx(0.65)
    assert highest_tau_gate(found.accuracy_by_tau, found.tau_gate, 0.2) == pytest.approx(0.75)
    assert highest_tau_gate(found.accuracy_by_tau, found.tau_gate, 1.0) == 1.0


def test_between_two_points_a_threshold_counts_as_the_better_one():
    falling = ((0.0, 0.9), (0.4, 0.8), (0.8, 0.7))
    assert highest_tau_gate(falling, 0.2, 0.05) == 0.2
    assert highest_tau_gate(falling, 0.2, 0.1) == 0.4
    rising = ((0.0, 0.7), (0.4, 0.8), (0.8, 0.7))
    assert highest_tau_gate(rising, 0.2, 0.05) == 0.4
    assert highest_tau_gate(rising, 0.9, 0.0) == 0.9


def test_a_calibration_comes_back_from_its_folder(measured, tmp_path):
    assert load_calibration(tmp_path) is None
    found = calibrate(measured, data="val", metric="exact_match", revision="abc")
    found.save(tmp_path)
    assert load_calibration(tmp_path) == found
    assert load_calibration(tmp_path, "abc") == found
    assert load_calibration(tmp_path, "def") is None


@pytest.mark.parametrize(
    "change",
    [
        {"tau_gate": 1.5}, {"tau_gate": 0.123}, {"tau_roi": 0}, {"gate_curve": []},
        {"questions": 0}, {"format": 2}, {"more": 1}, {"tau_gate": None},
    ],
)  # fmt: skip
def test_broken_files_are_named(measured, tmp_path, change):
    calibrate(measured, data="val", metric="exact_match").save(tmp_path)
    path = tmp_path / CALIBRATION_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InvalidRequest, match=r"calibration\.json"):
        load_calibration(tmp_path)
    path.write_text("{nonsense")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        load_calibration(tmp_path)


def test_the_order_of_the_curve_is_checked(measured):
    found = calibrate(measured, data="val", metric="exact_match").model_dump()
    with pytest.raises(ValueError, match="does not rise"):
        Calibration.model_validate({**found, "gate_curve": found["gate_curve"][::-1]})


def test_the_command_stores_thresholds_and_curve(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(builtin_model(), folder, ignore=shutil.ignore_patterns(CALIBRATION_FILE))
    arguments = ["calibrate", str(folder), "--questions", "12", "--tau-rois", "0.2,0.4"]
    dry = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert not (folder / CALIBRATION_FILE).exists()
    run = CliRunner().invoke(app, [*arguments, "--plot", str(tmp_path / "c.png")])
    assert run.exit_code == 0, run.output
    checkpoint = open_checkpoint(folder)
    found = load_calibration(folder, checkpoint.revision)
    assert found is not None
    assert (checkpoint.qzoom.tau_gate, checkpoint.qzoom.tau_roi) == (found.tau_gate, found.tau_roi)
    assert found.questions == 12
    assert (tmp_path / "c.png").stat().st_size > 10_000
    wrong = CliRunner().invoke(app, [*arguments[:2], "--tau-rois", "0.2,7"])
    assert wrong.exit_code == 2
    assert "between 0 and 1" in wrong.output
