import dataclasses
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from evaluation.ablation import (
    attention,
    components,
    depth,
    gate_controls,
    gate_labels,
    pictures,
    presets,
)
from evaluation.ablation.data_size import _covered, true_box_labels
from evaluation.ablation.gate_controls import Blanked, best_accuracy
from evaluation.ablation.registry import ABLATIONS, find_ablation
from evaluation.ablation.report import Report
from evaluation.ablation.schedule import SCHEDULES, find_schedule
from evaluation.ablation.workshop import Workshop
from evaluation.modes import Mode
from qzoom.builtin import builtin_model
from qzoom.data.builtin_records import DrawnPicture
from qzoom.data.records import open_records
from qzoom.errors import InvalidRequest
from qzoom.model.loading import open_checkpoint
from training.labels.regions import Evidence
from training.labels.rpn import RegionSample, read_samples
from training.labels.shards import LabelFolder

SMOKE = SCHEDULES["smoke"]


def test_a_report_is_a_section_and_a_file(tmp_path):
    report = Report("t", "Title", [{"B": 3, "right": 0.5, "box": None}], ["a.png"], ["A note."])
    report.about["model"] = "builtin"
    report.save(tmp_path)
    assert report.markdown() == (
        "## Title\n\n| B | right | box |\n|---|---|---|\n| 3 | 0.500 | - |\n\n"
        "![Title](a.png)\n- A note.\n"
    )
    made = dataclasses.replace(
        report,
        about={**report.about, "command": "qzoom x", "processor": "CPU", "threads": 2},
    )
    assert made.markdown().endswith("\n\n`qzoom x`; model builtin; CPU, 2 threads.\n")
    stored = json.loads((tmp_path / "t.json").read_text())
    assert stored["rows"] == [{"B": 3, "right": 0.5, "box": None}]
    assert stored["about"] == {"model": "builtin"}


def test_names_that_do_not_exist_are_refused():
    with pytest.raises(InvalidRequest, match="table-9"):
        find_ablation("table-9")
    with pytest.raises(InvalidRequest, match="'long'"):
        find_schedule("long")
    run = CliRunner().invoke(app, ["evaluate", "ablation", "--list"])
    assert all(name in run.output for name in ABLATIONS)
    wrong = CliRunner().invoke(app, ["evaluate", "ablation", "table-9"])
    assert wrong.exit_code == 2
    assert "table-9" in wrong.output


def test_cells_are_counted_against_the_evidence():
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = 0.5
    values[3, 3] = 0.25
    zeros = np.zeros_like(values)
    sample = RegionSample("1", "q", "a", Evidence(values, zeros, zeros, zeros.astype(bool)))
    relative, on_evidence = attention.cells(sample, (52, 27, 70, 40), (100, 100))
    assert relative.max() == 1.0
    assert on_evidence.reshape(4, 4)[1, 2] == 1
    assert on_evidence.sum() == 1


def test_boxes_cover_cells_by_area():
    covered = _covered((25, 0, 75, 50), (100, 100), (2, 2))
    np.testing.assert_allclose(covered, [[0.5, 0.5], [0, 0]])


def test_the_best_threshold_is_found():
    assert best_accuracy([True, True, False, False], [0.9, 0.8, 0.7, 0.1]) == 1.0
    assert best_accuracy([True, False], [0.5, 0.5]) == 0.5
    assert best_accuracy([True], [0.5]) is None


def test_a_blanked_picture_keeps_its_size_only():
    source = DrawnPicture("test", 0, 0)
    blank = Blanked(source).load()
    assert blank.shape == source.load().shape
    assert len(np.unique(blank)) == 1


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    return Workshop(builtin_model(), "built-in-stages", SMOKE, folder)


def test_a_folder_belongs_to_one_checkpoint_and_schedule(workshop):
    Workshop(builtin_model(), "built-in-stages", SMOKE, workshop.folder)
    with pytest.raises(InvalidRequest, match=r"made with schedule 'smoke', asked for is 'short'"):
        Workshop(builtin_model(), "built-in-stages", SCHEDULES["short"], workshop.folder)


def test_what_trains_nothing_runs_on_a_checkpoint(workshop):
    table = components.run(workshop)
    assert [row[""] for row in table.rows] == ["base", "+ RPN", "+ RPN + gate", "a perfect gate"]
    assert table.rows[0]["throughput"] == "1.00 x"
    drawn = pictures.run(workshop)
    assert all((workshop.folder / name).is_file() for name in drawn.pictures)
    controls = gate_controls.run(workshop)
    assert len(controls.rows) == 4
    assert all(0 <= row["balanced accuracy"] <= 1 for row in controls.rows)


@pytest.mark.slow
def test_variants_are_trained_once_from_shared_labels(workshop, monkeypatch):
    base = workshop.plain_base()
    assert not open_checkpoint(base).qzoom.has_rpn
    labels = workshop.labels()
    assert len(list(read_samples(LabelFolder.open(labels)))) > SMOKE.pictures
    model = workshop.rpn("deep", ["method.split_layer=2", "method.rpn_depth=3"])
    config = open_checkpoint(model).qzoom
    assert (config.split_layer, config.rpn_depth, config.has_rpn, config.has_gate) == (
        2,
        3,
        True,
        False,
    )
    assert len(workshop.ask(model, Mode("zoom"))) == SMOKE.questions
    told: list[str] = []
    monkeypatch.setattr(workshop, "tell", told.append)
    assert workshop.rpn("deep") == model
    assert not told
    truth = LabelFolder.open(true_box_labels(workshop))
    samples = {sample.id: sample for sample in read_samples(truth)}
    known = [r for r in open_records(truth.job["data"]) if r.evidence_px is not None]
    assert set(samples) == {r.id for r in known}
    found = attention.run(workshop)
    assert sum(row["cells"] for row in found.rows) > 1000
    assert (workshop.folder / "figure-5.png").stat().st_size > 10_000


def test_presets_differ_in_the_variant_and_not_in_the_model(workshop):
    own = open_checkpoint(builtin_model())
    paper, released = (presets.variant(own, name) for name in ("paper", "released"))
    assert paper == own.qzoom
    assert released.roi_positions == "sequential"
    assert released.coarse_max_tokens == own.qzoom.coarse_max_tokens
    assert (released.tau_gate, released.split_layer) == (own.qzoom.tau_gate, own.qzoom.split_layer)
    found = presets.run(workshop)
    names = [row[""] for row in found.rows]
    assert names[:2] == ["paper", "released"]
    assert "roi_positions: sequential" in names
    assert found.rows[0]["less paper"] == "-"


def test_a_gate_that_knows_is_above_one_that_guesses():
    direct, zoomed = np.array([1.0, 1.0, 0.0, 0.0]), np.array([1.0, 0.0, 1.0, 1.0])
    knows, inverse = np.array([0.1, 0.0, 0.9, 0.8]), np.array([0.9, 1.0, 0.1, 0.2])
    best = gate_labels.curve(direct, zoomed, knows)
    np.testing.assert_allclose(best, [0.75, 1.0, 1.0, 0.75, 0.5])
    np.testing.assert_allclose(
        gate_labels.curve(direct, zoomed, inverse), [0.75, 0.5, 0.25, 0.25, 0.5]
    )
    many = 50
    judged = gate_labels.Judged(
        np.tile(direct, many), np.tile(zoomed, many),
        {"consistency": np.tile(knows, (3, many)), "naive": np.tile(inverse, (3, many))},
    )  # fmt: skip
    gap = gate_labels.area_between(judged)
    assert gap.low > 0.2
    same = dict.fromkeys(gate_labels.RULES, judged.p_refine["naive"])
    equal = gate_labels.Judged(judged.direct, judged.zoomed, same)
    assert gate_labels.area_between(equal).value == 0
    assert gate_labels.area(judged, "consistency", 0) > gate_labels.area(judged, "naive", 0)


@pytest.mark.slow
def test_gates_are_trained_by_both_rules(workshop, monkeypatch):
    monkeypatch.setattr(Workshop, "recipe", _with_easy_gate(Workshop.recipe))
    found = gate_labels.run(workshop)
    assert [(row["labels"], row["seed"]) for row in found.rows] == [
        ("consistency", 0), ("consistency", 1), ("naive", 0), ("naive", 1),
    ]  # fmt: skip
    assert (workshop.folder / "figure-9.png").stat().st_size > 10_000
    model = workshop.gate("gate-naive-1")
    config = open_checkpoint(model).qzoom
    assert config.has_gate
    assert config.has_rpn


def _with_easy_gate(recipe):
    """Few pictures at few resolutions, so that some question is right at the last one."""

    def changed(self, changes=()):
        return recipe(self, [*changes, "gate_labels.budgets=[36, 81]", "gate_labels.match=anls",
                             "gate_labels.anls=0.01"])  # fmt: skip

    return changed


@pytest.mark.slow
def test_depths_are_swept(workshop, monkeypatch):
    monkeypatch.setattr(depth, "DEPTHS", (1,))
    monkeypatch.setattr(workshop, "schedule", SMOKE)
    table = depth.run(workshop)
    assert [(row["B"], row["R"]) for row in table.rows] == [
        (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (4, 1),
    ]  # fmt: skip
