"""The report of the chaos tests shows every count."""

import json

from benchmarks.faults import main


def test_every_count_is_in_the_table(tmp_path):
    line = {
        "test": "test_replicas_are_killed[gate]",
        "asked": 60,
        "answered": 57,
        "degraded": 2,
        "refused": {"state_lost": 3},
        "cancelled": 0,
        "wrong": 0,
        "lost": 0,
        "p50_s": 0.25,
        "p99_s": 1.5,
        "killed": "gate",
    }
    (tmp_path / "lines").write_text(json.dumps(line) + "\n")
    main(str(tmp_path / "lines"), str(tmp_path / "report.md"))
    text = (tmp_path / "report.md").read_text()
    row = (
        "| replicas are killed (gate); killed: gate | 60 | 57 | 2 | state_lost 3 | 0 | 0 | 0 "
        "| 0.25 | 1.5 |"
    )
    assert row in text
