"""The commands as a user types them, in processes of their own where that matters."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cli.main import app

NO_CUDA = [(["--device", "cuda"], "no CUDA device")]
QZOOM = [sys.executable, "-c", "from cli.main import app; app()"]


def run(*args, **env):
    return subprocess.run(
        [*QZOOM, *args],
        env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def invoke(*args):
    """Run in this process: the same code without a second of imports."""
    return CliRunner().invoke(app, list(args), env={"COLUMNS": "160"})


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['qzoom', '--help']\n"
        "from cli.main import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'transformers', 'fastapi'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for command in ("serve", "ask", "demo", "trace", "doctor", "version", "data", "train"):
        assert command in done.stdout


@pytest.mark.parametrize("command", ["serve", "ask", "demo", "trace", "doctor", "version"])
def test_every_command_explains_itself(command):
    done = invoke(command, "--help")
    assert done.exit_code == 0
    assert "Usage" in done.stdout


def test_ask_a_server(server, picture):
    done = run("ask", str(picture), "What is it?", "--url", server.url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "[42]"
    assert "route      zoom" in lines
    assert "box        (2, 3, 30, 20) px, score 0.80" in lines
    assert "tokens     36 coarse, 16 RoI, 0 spared" in lines


def test_ask_passes_the_route_on_and_prints_json(server, picture):
    done = invoke(
        "ask", str(picture), "What is it?", "--url", server.url, "--route", "direct", "--json"
    )
    document = json.loads(done.stdout)
    assert document["route"] == "direct"
    assert document["text"] == "[42]"
    assert document["box_px"] is None
    assert document["stage_ms"] == {"gate.prefill": [1.0, 2.0]}


def test_ask_saves_heat_map_and_box(server, picture, tmp_path):
    target = tmp_path / "overlay.png"
    done = invoke("ask", str(picture), "?", "--url", server.url, "--save", str(target))
    assert done.exit_code == 0
    with Image.open(target) as image:
        assert image.width > 900


def test_trace_draws_the_newest_request(server, picture):
    asked = invoke("ask", str(picture), "?", "--url", server.url, "--json")
    trace_id = json.loads(asked.stdout)["trace_id"]
    newest = invoke("trace", "--url", server.url)
    assert trace_id in newest.stdout
    assert "gate.prefill" in newest.stdout
    assert "gate.decide" in newest.stdout
    assert invoke("trace", trace_id, "--url", server.url).stdout == newest.stdout
    assert trace_id in invoke("trace", "--list", "--url", server.url).stdout
    record = json.loads(invoke("trace", trace_id, "--url", server.url, "--json").stdout)
    assert record["spans"][0]["queue_ms"] == 1.0


def test_failures_are_one_line_with_exit_code_2(server, picture, tmp_path):
    closed = "http://127.0.0.1:9"
    for args, said in (
        (["trace", "--url", closed], "no server at"),
        (["trace", "nope", "--url", server.url], "no recent trace"),
        (["ask", str(tmp_path / "absent.png"), "?"], "cannot be read"),
        (["ask", __file__, "?"], "is no picture"),
        (["ask", str(picture), "?", "--url", "nonsense"], "no address"),
        (["ask", str(picture), " ", "--url", server.url], "asks nothing"),
        (["ask", str(picture), "?", "--model", str(tmp_path / "absent")], "absent"),
        (["ask", str(picture), "refuse", "--url", server.url], "too much to do"),
        (["serve", "--remote-images", "https://a.example/"], "is no host"),
    ):
        done = invoke(*args)
        assert done.exit_code == 2, (args, done.output)
        [line] = done.stderr.splitlines()
        assert line.startswith("error:")
        assert said in line


@pytest.fixture
def plausible_model(tmp_path):
    """A folder that passes the first look."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    return tmp_path


def test_serve_refuses_what_cannot_work_before_it_starts_anything(plausible_model):
    empty = plausible_model / "empty"
    empty.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        for args, said in (
            (["--model", str(plausible_model / "absent")], "is not a folder"),
            (["--model", str(empty)], "no readable config.json"),
            (["--model", str(plausible_model), "--port", str(port)], f"127.0.0.1:{port}"),
            (["--model", str(plausible_model), "--grpc-port", str(port)], f"127.0.0.1:{port}"),
            (["--model", str(plausible_model), "--host", "nonsense"], "nonsense"),
            *([] if torch.cuda.is_available() else NO_CUDA),
        ):
            done = invoke("serve", *args)
            assert done.exit_code == 2, done.output
            assert said in done.stderr.splitlines()[-1]


def test_a_missing_extra_is_named(picture, plausible_model):
    hidden = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] in ('torch', 'ray', 'transformers'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from cli.main import app\n"
        "app()\n"
    )
    for args, extra in (
        (["ask", str(picture), "?", "--model", "x"], "model"),
        (["serve", "--model", str(plausible_model)], "gateway"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", hidden, *args],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert f"qzoom[{extra}]" in done.stderr
        assert "Traceback" not in done.stderr
