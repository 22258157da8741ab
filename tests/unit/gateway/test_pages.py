"""The pages are whole, come from this server alone, and are sent with safe headers."""

import json
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image, ImageChops
from starlette.testclient import TestClient

from gateway.app import Probes, create_app
from gateway.edge import Edge
from gateway.web.pages import ASSETS, MEDIA_TYPES, PAGES, load_assets
from qzoom.telemetry.logs import EventLog

SCRIPT = Path(__file__).parents[3] / "scripts" / "web_examples.py"
FILES = sorted(load_assets())
TEXTS = {name: (ASSETS / name).read_text() for name in FILES if not name.endswith(".png")}


@pytest.fixture(scope="module")
def client():
    async def unused(*_args):
        raise AssertionError

    async def unknown():
        return None

    edge = Edge(None, ("any",), EventLog("gateway"))
    app = create_app(edge, Probes(unknown, *[unused] * 5), behind_serve=False)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("path", [*PAGES, *(f"/web/{name}" for name in FILES)])
def test_every_file_is_sent_with_its_type_and_safe_headers(client, path):
    reply = client.get(path)
    assert reply.status_code == 200
    name = PAGES.get(path, path.removeprefix("/web/"))
    assert reply.content == (ASSETS / name).read_bytes()
    assert reply.headers["content-type"] == MEDIA_TYPES[(ASSETS / name).suffix]
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.headers["x-frame-options"] == "DENY"
    policy = dict(
        part.split(" ", 1) for part in reply.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in reply.headers["content-security-policy"]
    assert client.head(path).headers["etag"] == reply.headers["etag"]


def test_a_browser_that_has_the_file_gets_no_second_copy(client):
    tag = client.get("/").headers["etag"]
    again = client.get("/", headers={"if-none-match": f'"other", W/{tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert "content-security-policy" in again.headers
    assert client.get("/", headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/web/",
        "/web/none.js",
        "/web/../pages.py",
        "/web/%2e%2e/pages.py",
        "/web/%2fetc/passwd",
        "/web/..%2fpages.py",
    ],
)
def test_nothing_else_can_be_read(client, path):
    assert client.get(path).status_code == 404
    assert b"Trusted Types" not in client.get(path).content


def test_a_page_of_another_site_cannot_ask(client):
    foreign = {"origin": "https://elsewhere.example"}
    ask = {**foreign, "access-control-request-method": "POST"}
    asked = client.options("/v1/chat/completions", headers=ask)
    assert asked.status_code == 405
    # What a page may send without asking first, is no question.
    sent = client.post(
        "/v1/chat/completions", content="{}", headers={**foreign, "content-type": "text/plain"}
    )
    assert sent.status_code == 415
    for reply in (asked, sent, client.get("/v1/models", headers=foreign)):
        assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("page", ["playground.html", "dashboard.html"])
def test_a_page_refers_to_files_that_exist_and_to_nothing_elsewhere(page):
    known = {*PAGES, *(f"/web/{name}" for name in FILES)}
    tags = Tags(TEXTS[page]).tags
    links = [a[key] for _, a in tags for key in ("src", "href") if key in a]
    assert all(link in known or link.startswith("#") for link in links), links
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in tags:
        assert not {name for name in attributes if name == "style" or name.startswith("on")}
        for key in ("for", "aria-labelledby", "aria-describedby", "aria-controls"):
            assert attributes.get(key, ids[0]) in ids
    assert not [a for tag, a in tags if tag == "script" and "src" not in a]
    assert all("alt" in a for tag, a in tags if tag == "img")


def test_scripts_import_files_that_exist_and_never_make_html_of_text():
    scripts = {name: text for name, text in TEXTS.items() if name.endswith(".js")}
    assert len(scripts) > 10
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser"
    )
    for name, text in scripts.items():
        for imported in re.findall(r'from "([^"]+)"', text):
            # Imports of the snippets that visitors copy are no imports of the page.
            if name != "snippet.js":
                assert imported.removeprefix("./") in scripts, (name, imported)
        assert not re.search(forbidden, text), name
        assert len(text.splitlines()) < 300, name


def test_no_file_names_another_server():
    for name, text in TEXTS.items():
        found = set(re.findall(r"https?://[^\s\"'`)]+", text))
        assert found <= {"http://www.w3.org/2000/svg"}, name


def test_every_element_that_a_script_asks_for_is_in_its_page():
    shared = ("dom", "theme", "key", "api", "health", "waterfall")
    dashboard = ("dashboard", "figures", "traces", "charts")
    for page in ("playground.html", "dashboard.html"):
        scripts = [
            text
            for name, text in TEXTS.items()
            if name.endswith(".js")
            and name.removesuffix(".js") not in shared
            and (name.removesuffix(".js") in dashboard) == (page == "dashboard.html")
        ]
        asked = [name for text in scripts for name in re.findall(r'byId\("([^"]+)"\)', text)]
        assert asked
        ids = {a["id"] for _, a in Tags(TEXTS[page]).tags if "id" in a}
        assert set(asked) <= ids, page


def test_the_examples_are_those_of_the_demo():
    pictures, listed = runpy.run_path(str(SCRIPT))["drawn"]()
    remedy = "run scripts/web_examples.py"
    assert json.loads(TEXTS["examples.json"]) == listed, remedy
    assert {name for name in FILES if name.startswith("examples/")} == set(pictures), remedy
    for file, picture in pictures.items():
        with Image.open(ASSETS / file) as kept:
            difference = ImageChops.difference(kept.convert("RGB"), picture.convert("RGB"))
        # Another version of Pillow may smooth an edge in another way.
        assert max(high for _, high in difference.getextrema()) < 48, remedy
