"""A trace in a terminal: every call has its row, whatever the width."""

from io import StringIO

import pytest
from rich.console import Console

from cli.answer import Answered, describe
from cli.waterfall import Waterfall, recent_table


def span(name, start_ms, duration_ms, **figures):
    known = {"queue_ms": None, "compute_ms": None, "batch_size": None, "error": None}
    return {"name": name, "start_ms": start_ms, "duration_ms": duration_ms, **known, **figures}


TRACE = {
    "trace_id": "ab" * 16,
    "request_id": "some-request",
    "outcome": "ok",
    "duration_ms": 1153.0,
    "attributes": {"qzoom.route": "zoom", "qzoom.p_refine": 0.9992},
    "spans": [
        span("image.decode", 5.3, 6.4),
        span("encoder.coarse", 15.9, 10.1, queue_ms=0.5, compute_ms=9.0, reused_tokens=36),
        span("rpn.propose", 49.8, 15.4, queue_ms=0.1, compute_ms=4.9, error="unavailable"),
        span("llm.decode", 1139.0, 11.2, queue_ms=0.0, compute_ms=11.0, batch_size=12),
    ],
}


def drawn(width: int, what=None) -> str:
    file = StringIO()
    Console(file=file, width=width).print(what or Waterfall(TRACE))
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_nothing_is_cut_in_a_terminal_of_usual_width(width):
    shown = drawn(width)
    for text in ("encoder.coarse", "unavailable", "1139.0", "compute", "reused", "36", "1153 ms"):
        assert text in shown
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width


def test_a_wider_terminal_has_longer_bars():
    assert drawn(200).count("█") >= drawn(80).count("█")
    assert drawn(200).index("1153 ms") > drawn(80).index("1153 ms")


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_list_of_traces_shows_ids_that_can_be_asked_for(width):
    row = {
        "trace_id": "ab" * 16,
        "request_id": "a-request-of-somebody-who-likes-long-names",
        "started": 0.0,
        "route": "direct",
        "outcome": "ok",
        "duration_ms": 12345.6,
    }
    shown = drawn(width, recent_table([row, {**row, "outcome": "unsupported_media"}]))
    for text in ("ab" * 16, "direct", "12346", "ok"):
        assert text in shown
    assert len(shown.splitlines()) == 3


@pytest.mark.parametrize("stage", ["rpn.propose", "gate.prefill"])
def test_an_answer_says_that_the_rpn_found_nothing(stage):
    tokens = {"coarse": 30, "roi": 0, "spared": 361}
    answered = Answered("029", "direct", 0.99, 0.5, None, None, tokens, {stage: (0.0, 1.0)})
    said = "none: no part of the picture scored above tau_roi" in drawn(100, describe(answered))
    assert said == (stage == "rpn.propose")
