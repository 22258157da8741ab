"""The dashboard in a real browser: its figures are those of all gateways."""

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def asked(open_page, example_picture):
    """Ask on both routes, and be refused once."""
    page = open_page()
    page.choose(example_picture)
    for route in ("direct", "zoom", "auto"):
        page.ask(page.small_print, route=route)


@pytest.mark.usefixtures("asked")
def test_the_figures_are_those_of_all_gateways(open_page, served):
    page = open_page("/dashboard")
    page.find("#window").send_keys("since the start")
    stats = served.settled()
    finished = f"{stats['requests']['finished']:.0f}"
    page.wait(lambda: page.find("#tiles dd").text == finished)
    assert stats["requests"]["finished"] >= 3
    rows = {row.text.split()[0]: row.text.split() for row in page.all("#stages tbody tr")}
    assert list(rows) == [stage["stage"] for stage in stats["stages"]]
    for stage in stats["stages"]:
        assert rows[stage["stage"]][1] == f"{stage['compute']['count']:.0f}"
        assert stage["queue"]["p99_ms"] is not None
    routes = {row["route"]: row["whole"] for row in stats["latency"]}
    assert routes["direct"]["count"] > 0
    assert routes["zoom"]["count"] > 0
    assert f"direct {stats['requests']['routes']['direct']:.0f} (" in page.text("routes")
    assert "Gate scores." in page.find("#scores svg").get_attribute("aria-label")
    assert page.complaints() == []


def test_the_replicas_are_counted(open_page, served):
    page = open_page("/dashboard")
    page.wait(lambda: "2 running" in page.text("replicas"))
    replicas = served.get("/v1/stats")["replicas"]
    assert set(replicas) == {"gateway", "encoder", "gate", "rpn", "llm"}
    assert replicas["gateway"] == {"status": "HEALTHY", "states": {"RUNNING": 2}}


@pytest.mark.usefixtures("asked")
def test_a_request_opens_to_its_waterfall_and_stays_open(open_page, served):
    page = open_page("/dashboard")
    newest = page.wait(lambda: page.all("#traces details"))[0]
    newest.find_element("css selector", "summary").click()
    bars = page.wait(lambda: newest.find_elements("css selector", ".waterfall li"))
    request_id = newest.find_element("css selector", "code").text
    record = served.trace(request_id)
    assert len(bars) == len(record["spans"])
    before = page.text("asof")
    page.wait(lambda: page.text("asof") != before)
    assert newest.get_attribute("open") is not None
    assert newest.find_elements("css selector", ".waterfall li")


def test_it_is_live_until_it_is_paused(open_page, served):
    page = open_page("/dashboard")
    page.find("#window").send_keys("since the start")
    before = served.settled()["requests"]["finished"]
    page.wait(lambda: page.find("#tiles dd").text == f"{before:.0f}")
    page.script(
        "fetch('/v1/chat/completions', {method: 'POST',"
        " headers: {'content-type': 'application/json'}, "
        "body: JSON.stringify({model: arguments[0], messages: [{role: 'user', content: ["
        " {type: 'image_url', image_url: {url: 'data:image/png;base64,AAAA'}},"
        " {type: 'text', text: '?'}]}]})});",
        served.model,
    )
    page.wait(lambda: page.find("#tiles dd").text == f"{before + 1:.0f}")
    assert "unsupported_media" in page.text("outcomes")
    pause = page.find("#pause")
    pause.click()
    assert (pause.text, pause.get_attribute("aria-pressed")) == ("Go on", "true")
    pause.click()
    assert pause.text == "Pause"


def test_the_model_tells_how_far_load_may_raise_its_threshold(served):
    [model] = served.get("/v1/models")["data"]
    told, shed = model["qzoom"], model["qzoom"]["brownout"]
    assert shed["max_tau_gate_from"] == "calibration"
    assert told["tau_gate"] < shed["max_tau_gate"] < 1.0
    assert shed["min_roi_tokens"] < told["budgets"]["max_roi_tokens"]
