import dataclasses

import pytest

from evaluation.report import summarize, to_json
from evaluation.run import Record, _centre_inside, sample_items

RECORD = Record(
    mode="auto", group="detail", needs_detail=True, question="q", truth="4071", answer="4071",
    is_right=1.0, route="zoom", p_refine=0.9, box_px=(0, 0, 50, 100), evidence_in_box=True,
    box_area=0.5, visual_tokens=72, cpu_s=0.02,
)  # fmt: skip


def test_summary_counts_routes_and_boxes_on_the_right_questions() -> None:
    wrong = dataclasses.replace(
        RECORD, answer="1", is_right=0.0, route="direct", box_px=None, evidence_in_box=None,
        box_area=None, visual_tokens=36,
    )  # fmt: skip
    easy = dataclasses.replace(wrong, group="coarse", needs_detail=False, is_right=1.0)
    summary = summarize([RECORD, wrong, easy])
    assert summary.all.value == pytest.approx(2 / 3)
    assert summary.groups["detail"].value == 0.5
    assert summary.groups["coarse"].value == 1.0
    assert summary.zoom_on_detail is not None
    assert summary.zoom_on_detail.value == 0.5
    assert summary.direct_on_coarse is not None
    assert summary.direct_on_coarse.value == 1.0
    assert summary.box_area is not None
    assert (summary.box_area.value, summary.box_area.count) == (0.5, 1)
    assert summary.visual_tokens == 48


def test_report_keeps_every_record() -> None:
    report = to_json([summarize([RECORD])], [RECORD], {"command": "qzoom evaluate"})
    assert report["records"][0]["truth"] == "4071"
    assert report["summaries"][0]["all"]["count"] == 1


@pytest.mark.parametrize(
    ("box", "inside"), [((0, 0, 20, 20), True), ((10, 10, 20, 20), True), ((0, 0, 10, 10), False)]
)
def test_evidence_counts_by_its_centre(box: tuple[int, int, int, int], inside: bool) -> None:
    assert _centre_inside((5, 5, 15, 15), box) is inside


def test_items_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    first, again, other = (list(sample_items("test", seed, 5)) for seed in (3, 3, 4))
    assert [i.question for i in first] == [i.question for i in again]
    assert (first[0].picture == again[0].picture).all()
    assert [i.question for i in first] != [i.question for i in other]
