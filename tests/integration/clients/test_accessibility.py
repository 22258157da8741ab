"""For everybody: the rules of axe, the keyboard alone, a phone, and the dark."""

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageStat

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
TAB, ENTER = "\ue004", "\ue007"


def violations(page):
    """Run all rules of axe in the page; returns what they object to."""
    page.script(AXE)
    found = page.browser.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document, {resultTypes: ['violations']}).then((r) => done(r.violations));"
    )
    return [
        (rule["id"], node["target"], node["failureSummary"])
        for rule in found
        for node in rule["nodes"]
    ]


def open_with_content(open_page, path, example_picture):
    """Open a page that has something to show."""
    page = open_page("/")
    page.choose(example_picture)
    page.ask(page.small_print, route="zoom")
    if path == "/":
        page.find("#options summary").click()
        return page
    page = open_page(path)
    page.wait(lambda: page.all("#traces summary"))[0].click()
    page.wait(lambda: page.all("#traces .waterfall"))
    return page


@pytest.mark.parametrize("path", ["/", "/dashboard"])
def test_axe_finds_nothing_in_light_and_dark(open_page, example_picture, path):
    page = open_with_content(open_page, path, example_picture)
    assert violations(page) == []
    page.emulate(dark=True)
    assert violations(page) == []
    page.emulate(width=390)
    assert violations(page) == []


@pytest.mark.parametrize("path", ["/", "/dashboard"])
@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_screen_needs_no_sideways_scrolling(open_page, example_picture, path, width):
    page = open_with_content(open_page, path, example_picture)
    page.emulate(width=width)
    page.wait(lambda: page.script("return innerWidth") == width)
    assert page.script("return document.documentElement.scrollWidth") <= width
    small = page.script(
        "return [...document.querySelectorAll('button, select, summary, input:not([type=range])')]"
        ".filter((e) => e.checkVisibility() && getComputedStyle(e).opacity !== '0'"
        "  && !e.classList.contains('hidden') && !['checkbox', 'radio'].includes(e.type)"
        "  && e.getBoundingClientRect().height < 32).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert small == []


@pytest.mark.parametrize("path", ["/", "/dashboard"])
def test_dark_follows_the_system_and_the_button(open_page, path):
    page = open_page(path)

    def brightness():
        picture = Image.open(BytesIO(page.browser.get_screenshot_as_png())).convert("L")
        return ImageStat.Stat(picture).mean[0]

    assert brightness() > 200
    page.emulate(dark=True)
    assert brightness() < 60
    theme = page.find("#theme")
    assert theme.text == "Theme: system"
    theme.click()
    assert (theme.text, brightness() > 200) == ("Theme: light", True)
    page.emulate()
    theme.click()
    assert (theme.text, brightness() < 60) == ("Theme: dark", True)
    page.browser.refresh()
    assert page.find("#theme").text == "Theme: dark"
    page.find("#theme").click()


def test_the_keyboard_alone_is_enough(open_page):
    page = open_page()
    page.wait(lambda: page.all("#examples button"))
    seen = []

    def tab_until(wanted, at_most=40):
        for _ in range(at_most):
            page.browser.switch_to.active_element.send_keys(TAB)
            element = page.browser.switch_to.active_element
            # Where the focus is, must be seen: on the element, or on what stands for it.
            outlined = page.script(
                "const e = arguments[0];"
                "const s = (x) => x && getComputedStyle(x).outlineStyle !== 'none';"
                "return s(e) || s(e.closest('.drop')) || s(e.nextElementSibling);",
                element,
            )
            assert outlined, element.get_attribute("outerHTML")[:120]
            seen.append(element.get_attribute("id") or element.tag_name)
            if wanted(element):
                return element
        raise AssertionError(f"not reached: {seen}")

    first = tab_until(lambda _: True)
    assert "skip" in first.get_attribute("class")
    first.send_keys(ENTER)
    assert page.browser.switch_to.active_element.get_attribute("id") == "question"
    example = tab_until(lambda e: e.find_elements("xpath", "ancestor::ul[@id='examples']"))
    example.send_keys(ENTER)
    page.wait(lambda: page.all("#recent li") and page.idle())
    question = page.browser.switch_to.active_element
    assert question.get_attribute("id") == "question", "ready for the next question"
    question.send_keys("What is in the middle?", ENTER)
    page.wait(lambda: len(page.all("#recent li")) == 2 and page.idle())
    tab = tab_until(lambda e: e.get_attribute("role") == "tab")
    tab.send_keys("\ue014")  # right
    chosen = page.browser.switch_to.active_element
    assert chosen.text == "Python, openai"
    assert chosen.get_attribute("aria-selected") == "true"
    assert "from openai import" in page.text("code")
    recent = tab_until(lambda e: e.find_elements("xpath", "ancestor::ol[@id='recent']"))
    recent.send_keys(ENTER)
    assert page.text("status").startswith("Shown again")
