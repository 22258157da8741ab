"""What is asked while things break, what came of it, and whether anything was left behind."""

import asyncio
import json
import os
import random
import re
import signal
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
import ray
import torch
from ray._private.internal_api import node_stats
from ray.exceptions import RayError

from gateway.admission.bounds import AdmissionBounds
from gateway.admission.brownout import BrownoutBounds
from gateway.admission.shared import NAMESPACE, desk_name
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.model.pipeline import Pipeline

TIMEOUT_S = 120.0
SETTLE_S = 60.0
INLINE_BYTES = 100 * 1024
"""Ray keeps smaller results in the worker that asked (its max_direct_call_object_size)."""

SIZE = (300, 200)
QUESTION = "What is it?"
ROUTES = (
    {"route": "zoom", "tau_roi": 0.05},
    {"route": "direct"},
    {"tau_roi": 0.05},
    {"tau_gate": 0.0, "tau_roi": 0.05},
)
NUM_SEEDS = 5
MAX_TOKENS = 4
FIGURES = "QZOOM_CHAOS_FIGURES"
"""File to which each test adds a line of JSON with what it counted, for the report."""


@dataclass
class Tally:
    """What became of requests. Every one is in exactly one place.

    Attributes:
        asked: How many there were.
        answered: Complete answers, equal to the reference.
        degraded: Of these, coarse ones where a zoom was meant.
        refused: By the code of the error.
        cancelled: Left by the client.
        wrong: Answers that differ from the reference; always empty.
        lost: Neither an answer nor a reason; always empty.
        latencies_s: Of the answered.
    """

    asked: int = 0
    answered: int = 0
    degraded: int = 0
    refused: Counter = field(default_factory=Counter)
    cancelled: int = 0
    wrong: list = field(default_factory=list)
    lost: list = field(default_factory=list)
    latencies_s: list = field(default_factory=list)

    def check(self):
        """The invariant of every test here."""
        assert self.lost == []
        assert self.wrong == []
        assert self.asked == self.answered + sum(self.refused.values()) + self.cancelled

    def figures(self):
        known = {
            "asked": self.asked,
            "answered": self.answered,
            "degraded": self.degraded,
            "refused": dict(self.refused),
            "cancelled": self.cancelled,
            "wrong": len(self.wrong),
            "lost": len(self.lost),
        }
        if self.latencies_s:
            low, high = np.quantile(self.latencies_s, [0.5, 0.99])
            known |= {"p50_s": round(float(low), 3), "p99_s": round(float(high), 3)}
        return known


class Reference:
    """The pipeline in this process, asked for the route, tau and budgets that an answer names."""

    def __init__(self, checkpoint, picture):
        torch.set_num_threads(1)
        self._pipeline = Pipeline.open(checkpoint)
        self._picture = picture
        self._known = {}

    def text(self, asked, told, seed, max_tokens):
        """What the pipeline answers; `asked` is the request's `qzoom`, `told` the answer's."""
        route = "direct" if told["degraded"] else asked.get("route", "auto")
        options = Options(
            route=route,
            tau_gate=told["tau_gate"],
            tau_roi=asked.get("tau_roi"),
            max_visual_tokens=told["budgets"]["max_visual_tokens"],
            max_roi_tokens=told["budgets"]["max_roi_tokens"],
        )
        key = (options, seed, max_tokens)
        if key not in self._known:
            self._known[key] = self._pipeline.answer(
                single_question(QUESTION),
                [self._picture(*SIZE, seed)],
                options,
                Sampling(max_tokens=max_tokens),
            ).text
        return self._known[key]


@pytest.fixture(scope="session")
def reference(cluster, picture):
    return Reference(cluster.checkpoint, picture)


class Load:
    """Asks the running system, and keeps the books."""

    def __init__(self, cluster, body, reference):
        self.url = f"{cluster.url}/v1/chat/completions"
        self.tally = Tally()
        self._body = body
        self._reference = reference
        self._checks = []

    def request(self, number, *, max_tokens=MAX_TOKENS, stream=False, **method):
        """Build the body of one of a few distinct questions, and what it is checked by."""
        asked = {**ROUTES[number % len(ROUTES)], **method}
        seed = number % NUM_SEEDS
        body = self._body(
            QUESTION, size=SIZE, seed=seed, max_tokens=max_tokens, stream=stream, **asked
        )
        return body, (asked, seed, max_tokens)

    async def ask(self, http, number, **how):
        """Ask one question to its end; returns the response, None if the connection broke."""
        body, asked = self.request(number, **how)
        self.tally.asked += 1
        began = time.monotonic()
        try:
            response = await http.post(self.url, json=body)
        except httpx.HTTPError as error:
            self.tally.lost.append(repr(error))
            return None
        self.note(response, asked, time.monotonic() - began)
        return response

    def note(self, response, asked, took_s):
        if response.status_code == httpx.codes.OK:
            self.tally.answered += 1
            self.tally.latencies_s.append(took_s)
            self._checks.append((asked, response.json()))
            return
        try:
            error = response.json()["error"]
            assert error["message"]
            if response.status_code in {429, 503}:
                assert int(response.headers["retry-after"]) >= 1
            self.tally.refused[error["code"]] += 1
        except (ValueError, KeyError, AssertionError):
            self.tally.lost.append((response.status_code, response.text[:200]))

    async def run(self, count, clients, *, pause_s=0.0, **how):
        """Ask `count` questions, some clients at a time, each pausing after a refusal."""
        numbers = iter(range(count))
        limits = httpx.Limits(max_connections=clients)
        async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as http:

            async def client():
                for number in numbers:
                    response = await self.ask(http, number, **how)
                    if response is None or response.status_code != httpx.codes.OK:
                        await asyncio.sleep(pause_s)

            await asyncio.gather(*(client() for _ in range(clients)))

    def check(self):
        """Compare all answers with the reference, then the books."""
        for (asked, seed, max_tokens), answer in self._checks:
            told, text = answer["qzoom"], answer["choices"][0]["message"]["content"]
            self.tally.degraded += told["degraded"] is not None
            if text != self._reference.text(asked, told, seed, max_tokens):
                self.tally.wrong.append((asked, told, text))
        self._checks.clear()
        self.tally.check()
        return self.tally


@pytest.fixture
def load(cluster, body, reference):
    return Load(cluster, body, reference)


@pytest.fixture
def figures(request):
    """Write what a test counted into the report's file, if one is asked for."""

    def write(tally, **more):
        path = os.environ.get(FIGURES)
        if path:
            line = {"test": request.node.name, **tally.figures(), **more}
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    return write


def replica_pids(kind):
    """Processes of the replicas of one service of this test's Ray, found by their titles."""
    ours, found = descendants(os.getpid()), []
    for pid in ours:
        if re.match(rf"ray::ServeReplica:qzoom:{kind}\b", read(f"/proc/{pid}/cmdline")):
            found.append(pid)
    return found


def actor_pid(name):
    for pid in descendants(os.getpid()):
        if read(f"/proc/{pid}/cmdline").startswith(f"ray::{name}"):
            return pid
    raise AssertionError(f"no actor {name}")


def descendants(root):
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            stat = read(entry / "stat")
            if stat:
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found, frontier = [], {root}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        found += frontier
    return found


def read(path):
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def resident_bytes(pid):
    fields = read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


@pytest.fixture
def replicas():
    """Look for processes: `replicas("gate")` -> pids."""
    return replica_pids


@pytest.fixture
def memory():
    """Resident bytes of all replicas and gateways, by kind."""

    def measure():
        kinds = ("gateway", "encoder", "gate", "rpn", "llm")
        return {kind: sum(map(resident_bytes, replica_pids(kind))) for kind in kinds}

    return measure


@pytest.fixture
def kill(replicas):
    """Kill one replica of a service, at once; returns its pid."""

    def now(kind):
        pid = random.choice(replicas(kind))
        os.kill(pid, signal.SIGKILL)
        return pid

    return now


@pytest.fixture
def kill_actor():
    """Kill an actor by its class: `kill_actor("DeskActor")`."""

    def now(name):
        os.kill(actor_pid(name), signal.SIGKILL)

    return now


@pytest.fixture
def frozen(replicas):
    """Stop all replicas of a service for the length of a block: `async with frozen("gate"):`."""

    @asynccontextmanager
    async def block(kind):
        pids = replicas(kind)
        assert pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    return block


def desk(cluster):
    return ray.get_actor(desk_name(cluster.application), namespace=NAMESPACE)


DEFAULT_BOUNDS = AdmissionBounds(requests=32, max_waiting=64, brownout=BrownoutBounds(steps=0))


@pytest.fixture
async def bounds(cluster):
    """Set what may be in work for one test: `await bounds(AdmissionBounds(...))`."""

    async def set_to(new):
        for _ in range(40):
            try:
                return await desk(cluster).configure.remote(new)
            except RayError:  # It is being started again.
                await asyncio.sleep(0.5)
        pytest.fail("there is no desk")

    await set_to(DEFAULT_BOUNDS)
    yield set_to
    await set_to(DEFAULT_BOUNDS)


def stored_bytes():
    """Bytes that live objects take in the object store, but for those of Serve's controller.

    It keeps what each replica said when it was started, and that of dead ones for a while.
    """
    [node] = [node for node in ray.nodes() if node["Alive"]]
    stats = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"])
    controller = ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")._actor_id.binary()
    [references] = [w.object_refs for w in stats.core_workers_stats if w.actor_id == controller]
    kept = {one.object_id: one.object_size for one in references}
    return stats.store_stats.object_store_bytes_used - sum(
        size for size in kept.values() if size > INLINE_BYTES
    )


@pytest.fixture
async def nothing_stays(cluster):
    """Wait until nothing of any request is left, at the end of a test."""
    before = stored_bytes()
    yield
    deadline = time.monotonic() + SETTLE_S
    while True:
        state = await desk(cluster).get_state.remote()
        left = (stored_bytes() - before, state.in_work, state.waiting)
        if max(left) <= 0 or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.25)
    assert max(left) <= 0, f"{left}: bytes in the object store, requests in work, requests waiting"
