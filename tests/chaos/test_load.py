"""Several times the load that fits, clients that leave, clients that dawdle: the rest goes on."""

import asyncio
import json
import random
import socket
import time
from contextlib import suppress
from urllib.parse import urlsplit

import grpc
import httpx
import pytest

from gateway.admission.bounds import AdmissionBounds
from gateway.admission.brownout import BrownoutBounds
from qzoom.pb import qzoom_pb2 as pb
from qzoom.pb import qzoom_pb2_grpc

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.chaos,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("bounds", "nothing_stays"),
]
TIMEOUT_S = 120.0
SMALL = AdmissionBounds(
    requests=4,
    max_waiting=2,
    brownout=BrownoutBounds(steps=4, starts_at=0.5, hold_s=1.0, rise_s=0.1, max_tau_gate=1.0),
)
NUM_DISCONNECTS = 1000
NUM_SLOW = 300
SOAK_S = 60.0
GROWTH = 1.15
GROWTH_BYTES = 32 * 1024 * 1024


def metric(cluster, name):
    lines = httpx.get(f"{cluster.url}/metrics", timeout=TIMEOUT_S).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


async def test_five_times_the_load_is_shed_refused_and_never_lost(cluster, load, bounds, figures):
    await bounds(SMALL)
    refused_before = metric(cluster, 'qzoom_requests_total{outcome="overloaded"')
    await load.run(600, 5 * SMALL.requests, pause_s=0.3)
    seen = [answer["qzoom"]["brownout"] for _, answer in load._checks]
    tally = load.check()
    figures(tally, clients=5 * SMALL.requests, in_work=SMALL.requests)
    assert set(tally.refused) == {"overloaded"}
    assert tally.answered >= 20
    # Cost was shed, and answers say what of it concerns them.
    levels = {shed["level"] for shed in seen if shed}
    assert 4 in levels
    await asyncio.sleep(12.0)
    await load.run(2, 1)
    last = load._checks[-1][1]["qzoom"]["brownout"]
    assert last is None, "with the load the brown-out ends"
    load.check()
    await asyncio.sleep(2.0)  # Gateways report once per second.
    # What the proxies refused is told by the requests that came after it.
    counted = metric(cluster, 'qzoom_requests_total{outcome="overloaded"') - refused_before
    assert counted == tally.refused["overloaded"]


async def test_what_a_client_chose_holds_under_any_load(load, bounds):
    await bounds(SMALL)
    crowd = asyncio.create_task(load.run(60, 12, max_tokens=12))
    chosen = {"tau_gate": 0.0, "tau_roi": 0.05, "max_roi_tokens": 40, "max_visual_tokens": 48}
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
        answers = []
        while not crowd.done() or not answers:
            response = await load.ask(http, 3, **chosen)
            if response.status_code == httpx.codes.OK:
                answers.append(response.json()["qzoom"])
            await asyncio.sleep(0.1)
    await crowd
    load.check()
    for answer in answers:
        assert answer["tau_gate"] == 0.0
        assert answer["budgets"] == {"max_visual_tokens": 48, "max_roi_tokens": 40}
        assert answer["brownout"] is None or answer["brownout"]["changed"] == []


async def test_over_grpc_a_full_house_is_resource_exhausted(cluster, load, bounds, image_file):
    await bounds(AdmissionBounds(requests=1, max_waiting=0, brownout=BrownoutBounds(steps=0)))
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
        long = asyncio.create_task(load.ask(http, 1, max_tokens=700))
        await asyncio.sleep(1.0)
        parts = [pb.Part(image_url=pb.ImageUrl(data=image_file)), pb.Part(text="What is it?")]
        messages = [pb.Message(role=pb.ROLE_USER, content=parts)]
        question = pb.AnswerRequest(model=cluster.model, messages=messages, max_tokens=4)
        async with grpc.aio.insecure_channel(cluster.grpc_target) as channel:
            call = qzoom_pb2_grpc.QZoomStub(channel).Answer(question, timeout=TIMEOUT_S)
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            trailing = dict(await call.trailing_metadata())
            assert trailing["qzoom-code"] == "overloaded"
            assert int(trailing["retry-after"]) >= 1
        assert (await long).status_code == httpx.codes.OK
    load.check()


async def test_a_thousand_clients_leave_at_random_moments(load, figures):
    chance = random.Random(1)
    at_once = asyncio.Semaphore(16)

    async def leave(http, number):
        stay_s, stream = chance.random() * 0.6, chance.random() < 0.5
        async with at_once:
            body, _ = load.request(number, max_tokens=100, stream=stream)
            load.tally.asked += 1
            try:
                async with asyncio.timeout(stay_s):
                    response = await http.post(load.url, json=body)
            except TimeoutError:
                load.tally.cancelled += 1
                return
            if response.status_code == httpx.codes.OK:
                load.tally.answered += 1
            else:
                load.tally.refused[response.json()["error"]["code"]] += 1

    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http:
        await asyncio.gather(*(leave(http, number) for number in range(NUM_DISCONNECTS)))
    await load.run(8, 2)
    tally = load.check()
    figures(tally)
    assert tally.cancelled > NUM_DISCONNECTS / 4


async def test_clients_that_send_slowly_take_no_place(cluster, load, figures):
    """Some never finish their headers, some never finish their bodies."""
    where = urlsplit(cluster.url)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {where.netloc}\r\n".encode()
    whole = head + b"content-type: application/json\r\ncontent-length: 100000\r\n\r\n"
    sockets = []
    try:
        for i in range(NUM_SLOW):
            sockets.append(socket.create_connection((where.hostname, where.port), timeout=10))
            sockets[-1].sendall(head if i % 2 else whole + b"{")

        async def drip():
            while True:
                for one in sockets:
                    with suppress(OSError):
                        one.send(b" ")
                await asyncio.sleep(0.5)

        dripping = asyncio.create_task(drip())
        await load.run(24, 4)
        dripping.cancel()
    finally:
        for one in sockets:
            one.close()
    tally = load.check()
    figures(tally, slow_clients=NUM_SLOW)
    assert tally.answered == 24


async def test_memory_and_object_store_are_flat_in_a_soak(load, memory, figures):
    """All routes, whole and streamed, some clients leaving, for a while."""
    chance = random.Random(2)
    await load.run(40, 6)
    before, until = memory(), time.monotonic() + SOAK_S

    async def client(http, first):
        number = first
        while time.monotonic() < until:
            number += 1
            if chance.random() < 0.2:
                load.tally.asked += 1
                load.tally.cancelled += 1
                body, _ = load.request(number, max_tokens=50, stream=True)
                async with http.stream("POST", load.url, json=body) as response:
                    async for line in response.aiter_lines():
                        if line:
                            break
            else:
                await load.ask(http, number)

    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http:
        await asyncio.gather(*(client(http, 1000 * i) for i in range(4)))
    tally = load.check()
    after = memory()
    figures(
        tally,
        seconds=SOAK_S,
        memory_mib={kind: round(after[kind] / 2**20) for kind in after},
        growth_mib={kind: round((after[kind] - before[kind]) / 2**20) for kind in after},
    )
    for kind, size in after.items():
        assert size <= GROWTH * before[kind] + GROWTH_BYTES, (kind, json.dumps(before))
