"""Questions about one picture go to the replica that holds it, and nothing breaks when it goes."""

import asyncio
import base64
import os
import signal

import httpx
import pytest
from ray import serve

from deploy.app import build
from deploy.config import AppConfig
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
NAME = "affinity"
SIZE = (300, 200)
DIRECT = Options(route="direct")
GREEDY = Sampling(max_tokens=4)
QUESTIONS = ("What is it?", "Why?", "How many are there?")
NUM_PICTURES = 12
NUM_TRIES = 30
TIMEOUT_S = 120.0


@pytest.fixture(scope="module")
def flow(cluster, flow_runner):
    """An application with two encoders and two gates."""
    threads = {"threads": 1}
    llm = {**threads, "max_slots": 8, "max_len": 1024}
    config = AppConfig(
        model=cluster.checkpoint,
        model_name=cluster.model,
        gateway={"replicas": 1, "admit_requests": 32, "brownout_steps": 0},
        encoder={**threads, "replicas": 2},
        gate={**threads, "count_work": True, "replicas": 2},
        rpn=threads,
        llm=llm,
    )
    serve.run(build(config), name=NAME, route_prefix=f"/{NAME}")
    yield flow_runner(NAME)
    serve.delete(NAME)


@pytest.fixture
async def gates(flow):
    """A session id for each replica of the gate, by its process."""
    return await keys_of(flow.handles.gate)


async def keys_of(handle, count=2):
    keys = {}
    for number in range(400):
        called = handle.options(_by_reference=True, session_id=str(number))
        keys.setdefault((await called.status.remote()).pid, str(number))
        if len(keys) == count:
            return keys
        await asyncio.sleep(0.02)
    pytest.fail(f"{len(keys)} of {count} replicas answer")


async def work_of(flow, gates):
    """Pairs (token, layer) that each replica of the gate has computed so far."""
    totals = {}
    for pid, key in gates.items():
        called = flow.handles.gate.options(_by_reference=True, session_id=key)
        totals[pid] = sum((await called.work.remote()).values())
    return totals


async def asked(flow, gates, question, pixels):
    """Ask, and return the answer with what each replica computed for it."""
    before = await work_of(flow, gates)
    answer = await flow.answer(single_question(question), [pixels], DIRECT, GREEDY)
    after = await work_of(flow, gates)
    return answer, {pid: after[pid] - before[pid] for pid in gates if after[pid] > before[pid]}


async def test_a_picture_stays_at_one_replica_and_pictures_spread(flow, gates, picture):
    homes = set()
    for seed in range(NUM_PICTURES):
        pixels = picture(*SIZE, 700 + seed)
        spent = [(await asked(flow, gates, question, pixels))[1] for question in QUESTIONS]
        assert [len(one) for one in spent] == [1] * len(QUESTIONS)
        (home,) = {pid for one in spent for pid in one}
        first, *later = (one[home] for one in spent)
        assert max(later) < first / 2, "later questions compute their own tokens only"
        homes.add(home)
    assert homes == set(gates)


@pytest.mark.usefixtures("flow")
async def test_two_pictures_of_one_request_are_both_encoded(cluster, body, picture, encode_png):
    question = body("Which is brighter?", route="direct")
    url = base64.b64encode(encode_png(picture(*SIZE, 750))).decode()
    other = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{url}"}}
    question["messages"][0]["content"].insert(1, other)
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
        answer = await http.post(f"{cluster.url}/{NAME}/v1/chat/completions", json=question)
    assert answer.status_code == httpx.codes.OK, answer.text


async def test_after_a_kill_answers_stay_right_and_a_picture_has_a_home_again(
    cluster, flow, gates, body, picture
):
    bodies = [body(seed=760 + seed, route="direct") for seed in range(8)]
    url = f"{cluster.url}/{NAME}/v1/chat/completions"
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
        before = [await http.post(url, json=one) for one in bodies]
        victim = next(iter(gates))
        asking = [asyncio.create_task(http.post(url, json=one)) for one in bodies * 2]
        os.kill(victim, signal.SIGKILL)
        during = await asyncio.gather(*asking)
        after = [await http.post(url, json=one) for one in bodies]
    expected = [one.json()["choices"][0]["message"]["content"] for one in before]
    for answers in (during[:8], during[8:], after):
        assert [one.json()["choices"][0]["message"]["content"] for one in answers] == expected
    # Until the router has heard of the death, what belonged to the dead goes anywhere.
    for seed in range(NUM_TRIES):
        now = await keys_of(flow.handles.gate)
        assert victim not in now
        pixels = picture(*SIZE, 790 + seed)
        spent = [(await asked(flow, now, question, pixels))[1] for question in QUESTIONS]
        if len({pid for one in spent for pid in one}) == 1:
            return
        await asyncio.sleep(1.0)
    pytest.fail(f"{NUM_TRIES} pictures in a row had no home")
