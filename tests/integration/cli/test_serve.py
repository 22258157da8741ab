"""`qzoom serve` as a user runs it: it starts everything, answers, and leaves nothing behind."""

import base64
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from openai import OpenAI
from PIL import Image

from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.model.pipeline import Pipeline
from qzoom.model.random_checkpoint import write_random_checkpoint

# A Ray of its own beside the session's: half a minute alone, longer on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(900)]

QZOOM = [sys.executable, "-c", "from cli.main import app; app()"]
BUDGET = {
    "coarse_min_tokens": 16,
    "coarse_max_tokens": 64,
    "roi_min_tokens": 16,
    "roi_max_tokens": 48,
}
START_TIMEOUT_S = 480.0
STOP_TIMEOUT_S = 120.0
LONG_ANSWER = 1500


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "random"
    write_random_checkpoint(folder, "qwen2_5_vl", **BUDGET)
    return folder


@pytest.fixture
def mark():
    """Something that all processes of one system have in their environment."""
    return f"TEST_MARK={uuid.uuid4().hex}"


@pytest.fixture
def short():
    """A folder for temporary files; Ray's sockets lie below it, at most 107 characters long."""
    with tempfile.TemporaryDirectory(prefix="q") as folder:
        yield Path(folder)


def processes_with(mark):
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes()[:80])
        except OSError:
            continue
    return found


def serve_arguments(model, port):
    return [
        "serve",
        *("--model", str(model)),
        *("--port", str(port)),
        *("--grpc-port", str(free_port())),
    ]


@contextmanager
def serving(model, mark, tmp_path):
    """Run `qzoom serve`; yields the process and what it has printed, once it is ready."""
    port = free_port()
    output = tmp_path / "output"
    name, _, value = mark.partition("=")
    with output.open("w") as file:
        process = subprocess.Popen(
            [*QZOOM, *serve_arguments(model, port)],
            env={**os.environ, "COLUMNS": "120", name: value, "TMPDIR": str(tmp_path)},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while "Ctrl-C stops it" not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.5)
        yield process, f"http://127.0.0.1:{port}", output
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_and_stops_cleanly(model, mark, short, how):
    picture = short / "picture.png"
    Image.new("RGB", (64, 48), (9, 120, 200)).save(picture)
    with serving(model, mark, short) as (process, url, output):
        said = output.read_text()
        for service in ("encoder", "gate", "rpn", "llm"):
            assert f"{service} healthy" in said
        assert "MiB" in said
        asked = subprocess.run(
            [*QZOOM, "ask", str(picture), "What is it?", "--url", url],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert asked.returncode == 0, asked.stderr
        assert "llm.decode" in asked.stdout
        process.send_signal(how)
        assert process.wait(STOP_TIMEOUT_S) == 0
        assert output.read_text().rstrip().endswith("stopped")
        assert "Traceback" not in output.read_text()
    deadline = time.monotonic() + 20
    while (left := processes_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []
    assert list(short.glob("qzoom-*")) == []


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "llava"])
def test_a_released_folder_is_served_as_it_is(mark, short, family):
    """Answers through OpenAI's client are those of the pipeline in this process."""
    folder = short / "released"
    write_random_checkpoint(folder, family, layout="released")
    y, x = np.mgrid[0:90, 0:120]
    pixels = np.stack([x * 2, y * 2, 255 - x], axis=-1).astype(np.uint8)
    pipeline, sampling = Pipeline.open(folder), Sampling(max_tokens=6)

    def answer_here(route, tau_roi):
        options = Options(route, tau_roi=tau_roi)
        return pipeline.answer(single_question("What is it?"), [pixels], options, sampling)

    # A random map has no contrast: look at the tenth of the picture where it is highest; between
    # two cells, so that no rounding moves one across the threshold.
    scores = np.sort(answer_here("zoom", 0.5).heatmap, axis=None)
    tau_roi = float(scores[len(scores) * 9 // 10 :][:2].mean())
    expected = {route: answer_here(route, tau_roi) for route in ("direct", "zoom")}
    assert {answer.route for answer in expected.values()} == {"direct", "zoom"}
    with serving(folder, mark, short) as (_, url, _output):
        client = OpenAI(base_url=f"{url}/v1", api_key="none", timeout=STOP_TIMEOUT_S)
        for route, answer in expected.items():
            question = {
                "model": client.models.list().data[0].id,
                "messages": [{"role": "user", "content": content_of(pixels)}],
                "max_tokens": 6,
                "extra_body": {"qzoom": {"route": route, "tau_roi": tau_roi}},
            }
            whole = client.chat.completions.create(**question)
            assert whole.choices[0].message.content == answer.text
            assert whole.qzoom["route"] == route
            assert whole.usage.prompt_tokens == answer.num_prompt_tokens
            pieces = client.chat.completions.create(**question, stream=True)
            text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
            assert text == answer.text


def content_of(pixels):
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "What is it?"},
    ]


def test_it_finishes_what_runs_and_refuses_what_is_new(model, mark, short):
    content = content_of(np.full((48, 64, 3), (9, 120, 200), np.uint8))
    question = {"model": model.name, "messages": [{"role": "user", "content": content}]}
    long = question | {"max_tokens": LONG_ANSWER, "temperature": 1.0, "seed": 1}
    with serving(model, mark, short) as (process, url, output), ThreadPoolExecutor(1) as pool:
        where = f"{url}/v1/chat/completions"
        running = pool.submit(httpx.post, where, json=long, timeout=STOP_TIMEOUT_S)
        in_flight = "qzoom_requests_in_flight 1.0"
        while in_flight not in httpx.get(f"{url}/metrics", timeout=STOP_TIMEOUT_S).text:
            assert not running.done(), "the answer is too short for this test"
        process.send_signal(signal.SIGTERM)
        while not running.done():
            refused = httpx.post(where, json=question, timeout=STOP_TIMEOUT_S)
            if refused.status_code != httpx.codes.OK:
                break
        assert refused.status_code == httpx.codes.SERVICE_UNAVAILABLE, refused.text
        assert refused.json()["error"]["code"] == "unavailable"
        assert int(refused.headers["retry-after"]) >= 1
        answer = running.result(STOP_TIMEOUT_S)
        assert answer.status_code == httpx.codes.OK
        assert answer.json()["choices"][0]["finish_reason"] in {"stop", "length"}
        assert process.wait(STOP_TIMEOUT_S) == 0
        assert "Traceback" not in output.read_text()


def test_a_broken_checkpoint_is_one_line(model, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model.iterdir():
        data = file.read_bytes()
        (broken / file.name).write_bytes(data[:2000] if file.suffix == ".safetensors" else data)
    done = subprocess.run(
        [*QZOOM, *serve_arguments(broken, free_port())],
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "model.safetensors" in done.stderr.splitlines()[-1]
