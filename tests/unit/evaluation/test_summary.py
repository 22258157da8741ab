import json

import pytest

from evaluation.controls import balanced_accuracy, constant_box_recall, words_accuracy
from evaluation.modes import Mode, doubling_budgets, sweep
from evaluation.oracle import oracle_results
from evaluation.results import Run, load_run
from evaluation.summary import summarize
from evaluation.tables import markdown_table, rows
from qzoom.errors import InvalidRequest


def test_summary_counts_routes_and_boxes_on_the_right_questions(result):
    wrong = result(
        id="2", score=0.0, route="direct", box_px=None, roi_tokens=0, p_refine=0.1, cpu_s=0.01
    )
    easy = result(id="3", group="coarse", needs_detail=False, route="direct", box_px=None,
                  roi_tokens=0, evidence_px=None, domain="other", cpu_s=0.03)  # fmt: skip
    found = summarize([result(), wrong, easy])
    assert found.all.value == pytest.approx(2 / 3)
    assert {name: mean.value for name, mean in found.groups.items()} == {"detail": 0.5, "coarse": 1}
    assert {name: mean.value for name, mean in found.domains.items()} == {"scenes": 0.5, "other": 1}
    assert found.zoom_on_detail.value == 0.5
    assert found.direct_on_coarse.value == 1.0
    assert (found.box_area.value, found.box_area.count) == (0.5, 1)
    assert found.box_recall.value == 1.0
    assert found.visual_tokens == 48
    assert found.per_cpu_s == pytest.approx(50)
    assert found.domain_per_cpu_s["other"] == pytest.approx(1 / 0.03)
    assert found.latency_ms is None


def test_summary_of_a_gateway_has_latency_and_no_cpu(result):
    found = summarize([result(cpu_s=None, wall_s=w, error="e" * (w > 1)) for w in (0.5, 1.0, 1.5)])
    assert found.cpu_ms is None
    assert found.per_cpu_s is None
    assert found.latency_ms == (1000.0, pytest.approx(1450))
    assert found.errors == 1


def test_boxes_count_everywhere_where_nobody_knows_what_needs_detail(result):
    found = summarize([result(needs_detail=None), result(needs_detail=None, box_px=(0, 0, 9, 9))])
    assert found.zoom_on_detail is None
    assert found.box_recall.value == 0.5


def test_evidence_counts_by_its_centre(result):
    assert result(box_px=(0, 0, 26, 26)).evidence_in_box is True
    assert result(box_px=(0, 0, 25, 25)).evidence_in_box is False
    assert result(box_px=None).evidence_in_box is None


def test_a_run_comes_back_from_its_file(tmp_path, result):
    run = Run({"command": "qzoom evaluate"}, [result(), result(mode="base", score=float("nan"))])
    run.save(tmp_path / "sub" / "run.json", [summarize([result()])])
    document = json.loads((tmp_path / "sub" / "run.json").read_text())
    assert document["summaries"][0]["all"]["value"] == 1.0
    again = load_run(tmp_path / "sub" / "run.json")
    assert again.results[0] == run.results[0]
    assert list(again.modes()) == ["auto", "base"]
    assert not (tmp_path / "sub" / "run.json.part").exists()


@pytest.mark.parametrize("text", ["", "{}", '{"format": 1}', '{"format": 2, "about": {}}', "[1]"])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=r"run\.json"):
        load_run(path)


def test_oracle_zooms_only_where_it_helps(result):
    base = [result(id=str(i), score=s, route="direct") for i, s in enumerate([1, 0, 0, 1])]
    zoom = [result(id=str(i), score=s) for i, s in enumerate([1, 1, 0, 0])]
    chosen = oracle_results(base, zoom, Mode("oracle"))
    assert [r.route for r in chosen] == ["direct", "zoom", "direct", "direct"]
    assert [r.score for r in chosen] == [1, 1, 0, 1]
    assert {r.mode for r in chosen} == {"oracle"}
    with pytest.raises(ValueError, match="different questions"):
        oracle_results(base, zoom[::-1], Mode("oracle"))


def test_sweep_brings_what_the_oracle_is_made_of():
    names = [mode.name for mode in sweep(["oracle"], [36, None])]
    assert names == ["base@36", "base", "zoom@36", "zoom", "oracle@36", "oracle"]
    auto = Mode("auto", 64).options
    assert (auto.max_visual_tokens, auto.max_roi_tokens) == (64, 64)
    base = Mode("base", 64).options
    assert (base.route, base.max_roi_tokens) == ("direct", None)
    with pytest.raises(InvalidRequest, match="'bose'"):
        sweep(["bose"], [36])
    with pytest.raises(InvalidRequest, match="budget is 0"):
        sweep(["base"], [0])


def test_budgets_double_up_to_the_full_one():
    assert doubling_budgets(36, 324) == [36, 72, 144, 288, 324]
    assert doubling_budgets(36, 300) == [36, 72, 144, 288, 300]
    assert doubling_budgets(36, 36) == [36]


def test_a_constant_box_is_as_large_and_lies_in_the_middle_of_the_boxes(result):
    def at(x, y):
        return result(box_px=(x, y, x + 20, y + 20), evidence_px=(x + 8, y + 8, x + 12, y + 12))

    same = [at(40, 40)] * 4
    assert constant_box_recall(same, 0.04) == 1.0
    spread = [at(0, 0), at(80, 0), at(0, 80), at(80, 80)]
    assert constant_box_recall(spread, 0.04) == 0.0
    assert constant_box_recall([], 0.04) is None
    edge = [at(80, 80)]
    assert constant_box_recall(edge, 0.9) == 1.0


def test_words_alone_are_told_from_looking():
    giveaway = [f"read the code {i}" for i in range(50)] + [
        f"count the stars {i}" for i in range(50)
    ]
    labels = [True] * 50 + [False] * 50
    assert words_accuracy(giveaway, labels) == 1.0
    blind = [f"what is on the {('star', 'cross')[i % 2]}" for i in range(100)]
    assert words_accuracy(blind, labels) == pytest.approx(0.5, abs=0.12)
    assert balanced_accuracy([True, False], [True, True]) == 0.5
    assert balanced_accuracy([True, True], [True, True]) is None


def test_tables_leave_out_rows_without_figures(result):
    summaries = [
        summarize([result()]),
        summarize([result(mode="base", route="direct", box_px=None)]),
    ]
    names = [name for section in rows(summaries) for name, _ in section]
    assert "rest kept direct" not in names
    assert "latency ms, p50 / p95" not in names
    text = markdown_table(summaries)
    assert text.splitlines()[0] == "| | auto | base |"
    assert "| evidence in box | 100.0 % | - |" in text


def test_figures_by_kind_are_of_questions_that_need_detail(result):
    missed = result(question_kind="which", box_px=(0, 0, 20, 20), score=0.0)
    results = [
        result(question_kind="code"),
        missed,
        result(question_kind="which", route="direct", box_px=None),
        result(question_kind="code", needs_detail=False, box_px=(50, 50, 60, 60), score=0.0),
    ]
    found = summarize(results).kinds
    assert list(found) == ["code", "which"]
    assert (found["code"].right.value, found["which"].right.value) == (1.0, 0.5)
    assert (found["code"].zoom_share.value, found["which"].zoom_share.value) == (1.0, 0.5)
    recall, area = found["which"].box_recall, found["which"].box_area
    assert recall
    assert area
    assert (recall.value, area.value) == (0.0, 0.04)
    text = markdown_table([summarize(results)])
    assert "| code: box area | 50.0 % |" in text
    assert "| which: box area | 4.0 % |" in text
    # A single kind says nothing that the rows above do not say.
    assert "code:" not in markdown_table([summarize(results[:1])])
    assert summarize([result()]).kinds == {}
