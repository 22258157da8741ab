"""A replica dies in the middle of work; requests go on."""

import asyncio
import os
import signal

import httpx
import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]
NUM_REQUESTS = 24
CLIENTS = 4
KILL_AFTER = 6
TIMEOUT_S = 120.0


def pid_of(cluster, service):
    ready = httpx.get(f"{cluster.url}/readyz", timeout=TIMEOUT_S).json()
    return next(s["pid"] for s in ready["services"] if s["service"] == service)


async def ask_while_killing(cluster, bodies, service):
    """Ask all questions, a few at a time, and kill a replica of a service in between."""
    waiting, answers = list(enumerate(bodies)), {}
    pid = pid_of(cluster, service)

    async def client(http):
        while waiting:
            i, body = waiting.pop()
            if len(bodies) - len(waiting) == KILL_AFTER:
                os.kill(pid, signal.SIGKILL)
            answers[i] = await http.post(f"{cluster.url}/v1/chat/completions", json=body)

    async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
        await asyncio.gather(*(client(http) for _ in range(CLIENTS)))
    return [answers[i] for i in range(len(bodies))]


@pytest.mark.parametrize(
    "service",
    [
        "gate",
        pytest.param("encoder", marks=pytest.mark.slow),
        pytest.param("llm", marks=pytest.mark.slow),
    ],
)
async def test_requests_go_on_when_a_replica_is_killed(cluster, body, service):
    bodies = [
        body(seed=i % 5, max_tokens=4, route="zoom", tau_roi=0.05) for i in range(NUM_REQUESTS)
    ]
    before = pid_of(cluster, service)
    answers = await ask_while_killing(cluster, bodies, service)
    assert [answer.text for answer in answers if answer.status_code != httpx.codes.OK] == []
    assert pid_of(cluster, service) != before
    # State that was computed again gives the same answer.
    texts = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
    assert texts == [texts[i % 5] for i in range(NUM_REQUESTS)]


async def test_an_answer_that_is_read_as_a_whole_survives_a_kill_while_it_is_written(cluster, body):
    question = body(seed=1, max_tokens=300, route="direct")
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
        url = f"{cluster.url}/v1/chat/completions"
        undisturbed = await http.post(url, json=question)
        asked = asyncio.create_task(http.post(url, json=question))
        await asyncio.sleep(0.6 * undisturbed.elapsed.total_seconds())
        os.kill(pid_of(cluster, "llm"), signal.SIGKILL)
        answer = await asked
        assert answer.status_code == httpx.codes.OK, answer.text
        assert answer.json()["choices"] == undisturbed.json()["choices"]
        traces = f"{cluster.url}/v1/traces/{answer.json()['qzoom']['trace_id']}"
        for _ in range(50):
            trace = await http.get(traces)
            if trace.status_code == httpx.codes.OK:
                break
            await asyncio.sleep(0.1)
        assert trace.json()["attributes"]["qzoom.reruns"] == 1


async def test_without_an_rpn_the_coarse_answer_is_given_and_marked(cluster, body):
    question = body(route="zoom", tau_roi=0.05, deadline_ms=4000)
    coarse = body(route="direct")
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
        url = f"{cluster.url}/v1/chat/completions"
        direct = (await http.post(url, json=coarse)).json()
        os.kill(pid_of(cluster, "rpn"), signal.SIGKILL)
        degraded = (await http.post(url, json=question)).json()
        assert degraded["qzoom"]["degraded"].startswith("rpn.propose: ")
        assert degraded["qzoom"]["route"] == "direct"
        assert degraded["choices"] == direct["choices"]
        question["qzoom"]["deadline_ms"] = 100_000
        assert (await http.post(url, json=question)).json()["qzoom"]["degraded"] is None
