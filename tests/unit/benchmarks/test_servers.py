"""Servers under test: they start, answer, are measured, and end with whoever started them."""

import asyncio
import os
import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.clients import Item
from benchmarks.closed import run_closed
from benchmarks.contest import INPROCESS, LoadPlan, rivals
from benchmarks.pipe import ONE_PROCESS, PipeLoad, measure, noop_server
from benchmarks.questions import mixed_items
from benchmarks.servers.launch import Endpoint, ServerProcess
from benchmarks.servers.minimal import Worker, serve
from benchmarks.servers.processes import usage_of_tree
from qzoom.errors import Unavailable


def test_a_server_is_measured_and_leaves_no_process():
    load = PipeLoad(requests=5, clients=2, seconds=0.3)
    with noop_server(ONE_PROCESS, load) as server:
        cost = measure(server, load)
        pid = server.pid
        (usage,) = [u for u in usage_of_tree(os.getpid()) if u.pid == pid]
    assert cost.alone_ms > 0
    assert cost.per_s > 0
    assert cost.cpu_ms > 0
    assert usage.own_bytes > 2**20
    assert "benchmarks.servers.noop" in usage.title
    assert pid not in {u.pid for u in usage_of_tree(os.getpid())}


INTERRUPTED = """
import signal
import time
signal.signal(signal.SIGINT, signal.default_int_handler)  # Ignored in jobs of a shell.
from benchmarks.pipe import ONE_PROCESS, PipeLoad, noop_server
with noop_server(ONE_PROCESS, PipeLoad()) as server:
    print(server.pid, flush=True)
    time.sleep(60)
"""


def test_ctrl_c_ends_a_bench_and_then_its_servers():
    bench = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pid = int(bench.stdout.readline())
    # As a terminal does: to all of the group, were the server one of it.
    os.killpg(bench.pid, signal.SIGINT)
    _, complaints = bench.communicate(timeout=60)
    assert "KeyboardInterrupt" in complaints
    assert not Path(f"/proc/{pid}").exists()


def test_a_server_that_does_not_start_says_why():
    with (
        pytest.raises(Unavailable, match="no-such-checkpoint"),
        ServerProcess(
            "rival",
            "benchmarks.servers.inprocess",
            {"model": "no-such-checkpoint", "threads": 1, "workers": 1},
        ),
    ):
        pass


def test_the_minimal_server_batches_what_waits_and_streams():
    batches = []

    def answer(jobs):
        batches.append(len(jobs))
        for job in jobs:
            job.send(f"{job.picture.shape[1]} ")
            job.send(job.question)

    worker = Worker(answer, max_batch=3)
    ready = serve(worker)
    endpoint = Endpoint("minimal", ready["url"], ready["model"])
    items = [Item(item.image, "how wide?") for item in mixed_items(6, per_picture=1)]
    closed = asyncio.run(run_closed(endpoint, items, clients=6))
    assert closed.errors == []
    assert sum(batches) == 6
    assert max(batches) <= 3
    assert all(s.text.endswith("how wide?") and s.num_pieces == 2 for s in closed.samples)


def test_every_rival_has_three_settings(tmp_path):
    found = {name: settings for name, _, settings in rivals(tmp_path, LoadPlan())}
    assert INPROCESS in found
    assert {len(settings) for settings in found.values()} == {3}
    assert "vLLM" not in found
    with_vllm = LoadPlan(vllm_python=tmp_path / "python")
    assert "vLLM" in {name for name, _, _ in rivals(tmp_path, with_vllm)}


def test_pictures_differ_and_questions_about_one_follow_each_other():
    items = mixed_items(60, per_picture=2, methods=({}, {"route": "zoom"}))
    assert len(items) == 60
    assert len({item.image for item in items}) == 30
    assert [a.image == b.image for a, b in zip(items[::2], items[1::2], strict=True)] == [True] * 30
    assert [item.method for item in items[:4]] == [{}, {"route": "zoom"}] * 2
    assert all(item.truth for item in items)


def test_the_mark_that_tells_pictures_apart_is_small():
    one, other = (mixed_items(25, per_picture=1)[i].image for i in (0, 24))
    first, again = (np.asarray(Image.open(BytesIO(f))).astype(int) for f in (one, other))
    assert 0 < (first != again).any(axis=-1).sum() <= 4
