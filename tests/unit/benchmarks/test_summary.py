"""The page over a folder of results."""

import sys

import pytest

from benchmarks import summary
from benchmarks.report import Plot, Report, Target
from benchmarks.results import write_report


def report(name: str, date: str, value: float) -> Report:
    return Report(
        bench=name,
        load={},
        tables=[],
        figures={},
        plot=Plot("bars", "t", "", "y", ("a",), {"s": (1.0,)}),
        targets=[Target("ratio", value, 2.0), Target("rate", value, 1.0, at_least=True)],
        notes=["checked"],
        date=date,
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_report(report("later", "2026-11-25 18:00:00 +0000", 3.0), tmp_path, "qzoom bench later")
    write_report(report("early", "2026-11-25 17:00:00 +0000", 1.5), tmp_path, "qzoom bench early")
    monkeypatch.setattr(sys, "argv", ["summary", str(tmp_path)])
    return tmp_path


def test_missed_figures_and_commands_stay_in(folder):
    summary.main()
    page = (folder / "README.md").read_text()
    assert "| early | ratio <= 2 | 1.5 | met |" in page
    assert "| later | ratio <= 2 | 3 | **missed** |" in page
    assert "| later | rate >= 1 | 3 | met |" in page
    assert page.index("qzoom bench early") < page.index("qzoom bench later")
    assert "- checked" in page


def test_what_people_wrote_is_kept(folder):
    summary.main()
    page = folder / "README.md"
    page.write_text(page.read_text() + "## Why\nThe bus was late.\n")
    summary.main()
    text = page.read_text()
    assert text.count("The bus was late.") == 1
    assert text.index("| early |") < text.index("The bus was late.")


def test_other_formats_are_refused(folder):
    (folder / "old.json").write_text('{"format": 0}')
    with pytest.raises(ValueError, match=r"old\.json has format 0"):
        summary.main()
