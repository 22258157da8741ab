"""Every example runs as it is written, and so does every snippet that the playground shows."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EXAMPLES = Path(__file__).parents[3] / "examples"
QUESTION = """It's "quoted", $HOME `too` \\ 100 %: what number is on the object at the top?"""
NPM_TIMEOUT_S = 180


@pytest.fixture
def run(served, example_picture, tmp_path):
    """Run a command in an empty folder with a picture in it; returns what it printed."""
    shutil.copy(example_picture, tmp_path / "it's a picture.png")

    def start(*command, folder=tmp_path, **env):
        done = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(EXAMPLES.parent),
                "QZOOM_URL": served.url,
                "QZOOM_MODEL": served.model,
                **env,
            },
            capture_output=True,
            text=True,
            timeout=NPM_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    start.picture = tmp_path / "it's a picture.png"
    return start


def test_every_example_is_run_here():
    here = Path(__file__).read_text(encoding="utf-8")
    for example in EXAMPLES.glob("*/*.*"):
        if example.suffix in {".py", ".sh", ".mjs"}:
            assert example.name in here, example
            path = f"{example.parent.name}/{example.name}"
            assert f"`{path} " in (EXAMPLES / "README.md").read_text(encoding="utf-8")


def test_curl(run):
    answer = json.loads(run("bash", EXAMPLES / "curl" / "ask.sh", run.picture, QUESTION))
    assert answer["choices"][0]["message"]["content"]
    assert answer["qzoom"]["route"] in {"direct", "zoom"}


def test_curl_streams(run):
    lines = run("bash", EXAMPLES / "curl" / "stream.sh", run.picture, QUESTION).splitlines()
    events = [line.removeprefix("data: ") for line in lines if line]
    assert events[-1] == "[DONE]"
    assert json.loads(events[0])["qzoom"]["route"] in {"direct", "zoom"}


def test_openai_in_python(run):
    lines = run(sys.executable, EXAMPLES / "python" / "with_openai.py", run.picture, QUESTION)
    assert lines.splitlines()[0]
    assert lines.splitlines()[1].startswith(("route direct boxes []", "route zoom boxes [{"))


def test_qzoom_client(run, tmp_path):
    lines = run(sys.executable, EXAMPLES / "python" / "with_qzoom.py", run.picture, QUESTION)
    assert "VisualTokens(coarse=" in lines
    assert (tmp_path / "where-it-looked.png").stat().st_size > 10_000


@pytest.mark.parametrize("protocol", ["REST", "gRPC"])
def test_many_questions_at_once(run, served, protocol):
    questions = [QUESTION, "What is in the middle?", "What shape is at the top?"]
    env = {"QZOOM_GRPC": served.grpc_target} if protocol == "gRPC" else {}
    script = EXAMPLES / "python" / "many_at_once.py"
    lines = run(sys.executable, script, run.picture, *questions, **env).splitlines()
    assert sorted(line.partition(" -> ")[0] for line in lines) == sorted(questions)


def test_grpc_by_reflection(run, served):
    printed = run(
        sys.executable,
        EXAMPLES / "grpc" / "reflect.py",
        run.picture,
        QUESTION,
        QZOOM_GRPC=served.grpc_target,
    )
    answer = json.loads(printed)
    assert answer["text"]
    assert answer["started"]["route"] in {"ROUTE_DIRECT", "ROUTE_ZOOM"}


def test_grpcurl(run, served):
    if not shutil.which("grpcurl"):
        pytest.skip("no grpcurl; reflect.py beside it asks in the same way")
    printed = run(
        "bash", EXAMPLES / "grpc" / "ask.sh", run.picture, QUESTION, QZOOM_GRPC=served.grpc_target
    )
    assert json.loads(printed)["text"]


@pytest.fixture(scope="package")
def javascript(tmp_path_factory):
    """A copy of the JavaScript example with its package installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("no node and npm")
    folder = tmp_path_factory.mktemp("javascript")
    shutil.copytree(EXAMPLES / "javascript", folder, dirs_exist_ok=True)
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=NPM_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm install did not end in time")
    if done.returncode:
        pytest.skip(f"npm install failed: {done.stderr[-300:]}")
    return folder


def test_openai_in_javascript(run, javascript):
    printed = run("node", javascript / "ask.mjs", run.picture, QUESTION)
    assert printed.splitlines()[0]
    assert printed.splitlines()[-1] in {"route direct", "route zoom"}


@pytest.fixture
def snippets(open_page, run):
    """What the playground shows for the hostile question about the hostile file name."""
    page = open_page()
    page.choose(run.picture)
    page.find("#question").send_keys(QUESTION)
    page.find("input[value=direct]").send_keys(" ")
    found = {}
    for tab in page.all("#tabs button"):
        tab.click()
        found[tab.text] = page.text("code")
    return found


def test_the_snippets_run_as_they_are(snippets, run, tmp_path, javascript):
    assert set(snippets) == {"curl", "Python, openai", "Python, qzoom", "JavaScript"}
    answer = json.loads(run("bash", "-c", snippets["curl"]))
    assert answer["qzoom"]["route"] == "direct"
    text = answer["choices"][0]["message"]["content"]
    assert run(sys.executable, "-c", snippets["Python, openai"]) == f"{text} direct\n"
    assert run(sys.executable, "-c", snippets["Python, qzoom"]) == f"{text} direct ()\n"
    assert (tmp_path / "overlay.png").exists()
    script = javascript / "snippet.mjs"
    script.write_text(snippets["JavaScript"], encoding="utf-8")
    shutil.copy(run.picture, javascript)
    assert run("node", script, folder=javascript) == f"{text} direct\n"
