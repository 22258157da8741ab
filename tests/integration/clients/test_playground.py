"""The playground in a real browser, on the real system: what a visitor does and sees."""

import json
import re

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def page(open_page, example_picture):
    page = open_page()
    page.choose(example_picture)
    return page


def painted(page, canvas):
    """Count the pixels of a canvas that are not clear."""
    return page.script(
        "const c = document.getElementById(arguments[0]);"
        "if (!c.width || !c.height) return 0;"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 8; return n;",
        canvas,
    )


def test_a_picture_is_uploaded_and_asked_about(page, served):
    assert painted(page, "picture") > 10_000
    answer = page.ask(page.small_print)
    assert answer.strip()
    record = served.trace(page.trace())
    attributes = record["attributes"]
    assert page.text("route") == attributes["qzoom.route"]
    assert f"τ {attributes['qzoom.tau_gate']:.2f}" in page.text("why")
    coarse, roi, spared = (attributes[f"qzoom.tokens.{k}"] for k in ("coarse", "roi", "spared"))
    assert f"{coarse + roi} of {coarse + roi + spared} spent" in page.text("tokens")
    drawn = [row.text for row in page.all("#times .waterfall li > span:first-child")]
    assert drawn == [span["name"] for span in record["spans"]]
    assert page.text("status") == f"Answer: {answer}. Route {page.text('route')}."
    assert page.complaints() == []


def test_the_direct_route_has_neither_box_nor_heat_map(page):
    page.ask(page.small_print, route="direct")
    assert page.text("route") == "direct"
    assert "so the gate was not" in page.text("why")
    assert not page.find("#roi").is_displayed()
    assert not page.find("#crop-figure").is_displayed()
    assert painted(page, "heat") == 0
    assert "second look 0" in page.text("tokens")


def test_the_zoom_route_shows_where_it_looked(page, served):
    page.ask(page.small_print, route="zoom")
    attributes = served.trace(page.trace())["attributes"]
    assert page.text("route") == attributes["qzoom.route"] == "zoom"
    x0, y0, x1, y1 = attributes["qzoom.box"]
    width, height = map(
        int, re.findall(r"(\d+) \N{MULTIPLICATION SIGN} (\d+) px", page.text("picture-name"))[0]
    )
    shown = page.script(
        "const f = document.getElementById('picture').getBoundingClientRect();"
        "const b = document.getElementById('roi').getBoundingClientRect();"
        "return [(b.left - f.left) / f.width, (b.top - f.top) / f.height,"
        " (b.right - f.left) / f.width, (b.bottom - f.top) / f.height];"
    )
    wanted = (x0 / width, y0 / height, x1 / width, y1 / height)
    assert shown == pytest.approx(wanted, abs=0.01)
    assert f"{x1 - x0} \N{MULTIPLICATION SIGN} {y1 - y0} px at ({x0}, {y0})" in page.text(
        "crop-caption"
    )
    crop = page.script("const c = document.getElementById('crop-view'); return c.width / c.height")
    assert crop == pytest.approx((x1 - x0) / (y1 - y0), rel=0.02)
    assert painted(page, "heat") > 0
    page.find("#show-heat").click()
    page.find("#show-box").click()
    assert painted(page, "heat") == 0
    assert not page.find("#roi").is_displayed()


def test_an_example_is_one_click(open_page):
    page = open_page()
    page.wait(lambda: page.all("#examples button"))[0].click()
    page.wait(lambda: page.all("#recent li") and page.idle())
    assert page.find("#question").get_attribute("value") in page.text("examples")
    assert page.text("answer").strip()


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_can_be_dropped_and_pasted(open_page, way):
    page = open_page()
    page.script(
        "const way = arguments[0], done = new DataTransfer();"
        "const c = document.createElement('canvas'); c.width = 90; c.height = 60;"
        "c.getContext('2d').fillRect(0, 0, 50, 50);"
        "c.toBlob((blob) => {"
        " done.items.add(new File([blob], 'handed over.png', {type: 'image/png'}));"
        " const event = way === 'drop' ? new DragEvent('drop', {dataTransfer: done, bubbles: true})"
        "  : new ClipboardEvent('paste', {clipboardData: done, bubbles: true});"
        " document.body.dispatchEvent(event);"
        "});",
        way,
    )
    page.wait(
        lambda: "handed over.png, 90 \N{MULTIPLICATION SIGN} 60 px" in page.text("picture-name")
    )
    assert page.ask("What is it?", route="direct").strip()


def test_the_slider_is_the_threshold_of_the_request(page, served):
    page.find("#options summary").click()
    slider = page.find("#tau")
    [model] = served.get("/v1/models")["data"]
    assert page.text("tau-shown") == f"the model's, {model['qzoom']['tau_gate']:.2f}"
    slider.send_keys("\ue010")  # End
    assert page.text("tau-shown") == "1.00"
    page.ask(page.small_print)
    attributes = served.trace(page.trace())["attributes"]
    assert attributes["qzoom.tau_gate"] == 1.0
    unbounded = attributes["qzoom.tokens.coarse"]
    slider.send_keys("\ue011\ue014")  # Home, right
    assert page.text("tau-shown") == "0.00"
    assert "would look closer if asked again" in page.text("why")
    assert '"tau_gate":0' in page.text("code")
    page.find("#coarse").send_keys("\ue014" * 3)
    assert page.text("coarse-shown") == "16 tokens"
    page.ask(page.small_print, route="direct")
    attributes = served.trace(page.trace())["attributes"]
    assert 0 < attributes["qzoom.tokens.coarse"] < unbounded


def test_earlier_requests_come_back(page):
    first = page.ask(page.small_print, route="zoom")
    page.ask("What is in the middle?", route="direct")
    page.all("#recent button")[1].click()
    assert page.text("answer") == first
    assert page.text("route") == "zoom"
    assert page.find("#question").get_attribute("value") == page.small_print
    assert page.find("#roi").is_displayed()
    assert page.find("input[value=zoom]").is_selected()


def test_a_refusal_is_explained_and_nothing_in_it_is_run(open_page, tmp_path):
    page = open_page()
    broken = tmp_path / f"{HOSTILE.replace('/', '')}.png"
    broken.write_bytes(b"no picture")
    page.choose(broken)
    page.ask(HOSTILE)
    said = page.text("problem")
    assert "That did not work. The picture is no picture in one of JPEG" in said
    assert "code unsupported_media" in said
    assert re.search(r"request [\w-]{8,}", said)
    assert page.find("#problem").get_attribute("role") == "alert"
    assert HOSTILE in page.text("recent")
    assert HOSTILE in page.text("picture-name") + page.text("recent")
    assert page.all("img[src=x]") == []
    assert not page.find("#show-heat").is_displayed()
    # The next question is not hurt by it.
    page.find("#problem").is_displayed()
    page.wait(lambda: page.all("#examples button"))[0].click()
    page.wait(lambda: len(page.all("#recent li")) == 2 and page.idle())
    assert not page.find("#problem").is_displayed()


def test_what_is_no_picture_is_not_sent(open_page, tmp_path):
    page = open_page()
    other = tmp_path / "letter.txt"
    other.write_text("hello")
    page.find("#file").send_keys(str(other))
    page.wait(lambda: "letter.txt is not a picture." in page.text("problem"))
    assert not page.find("#look").is_displayed()
    page.find("#question").send_keys("?")
    page.find("#ask").click()
    page.wait(lambda: "Choose a picture first" in page.text("problem"))


def test_a_slow_answer_can_be_stopped_and_a_dead_server_is_named(page):
    def network(**conditions):
        limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        page.browser.execute_cdp_cmd("Network.emulateNetworkConditions", limits | conditions)

    page.browser.execute_cdp_cmd("Network.enable", {})
    try:
        network(latency=20_000)
        page.find("#question").send_keys("slow?")
        page.find("#ask").click()
        page.wait(lambda: page.find("#stop").is_displayed())
        assert not page.find("#ask").is_enabled()
        page.find("#stop").click()
        page.wait(page.idle)
        assert "You stopped it." in page.text("problem")
        network(offline=True)
        page.find("#ask").click()
        page.wait(lambda: "cannot be reached" in page.text("problem"))
        network()
        assert page.ask(route="direct").strip()
    finally:
        network()


def test_the_key_is_sent_and_kept_in_the_tab_only(page):
    key = "qz-test-0123456789"
    page.find("#options summary").click()
    page.find("#key").send_keys(f"{key}\t")
    assert page.script("return sessionStorage.getItem('qzoom.key')") == key
    assert page.script("return JSON.stringify(localStorage) + document.cookie").find(key) == -1
    page.browser.get_log("performance")
    page.ask("What is it?", route="direct")
    events = [json.loads(e["message"])["message"] for e in page.browser.get_log("performance")]
    asked = [
        e["params"]["request"]
        for e in events
        if e["method"] == "Network.requestWillBeSent" and "/v1/" in e["params"]["request"]["url"]
    ]
    assert asked
    for request in asked:
        headers = {name.lower(): value for name, value in request["headers"].items()}
        assert headers["authorization"] == f"Bearer {key}"
    for tab in page.all("#tabs button"):
        tab.click()
        assert "QZOOM_API_KEY" in page.text("code")
        assert key not in page.text("code")
    page.find("#key").clear()
    page.find("#key").send_keys("x\b\t")
    page.script("sessionStorage.clear()")


def test_nothing_comes_from_elsewhere_and_no_text_becomes_html(page, served):
    page.ask("What is it?", route="direct")
    loaded = page.script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert len(loaded) > 10
    assert all(url.startswith(f"{served.url}/") for url in loaded)
    refused = page.script(
        "try { document.body.innerHTML = '<p>x</p>'; return 'it became HTML'; }"
        "catch (error) { return error.name; }"
    )
    assert refused == "TypeError"
