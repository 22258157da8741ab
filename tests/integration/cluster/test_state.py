"""State in flight does not pile up: the object store stays flat, slots are freed."""

import asyncio
from contextlib import aclosing

import httpx
import pytest
import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling

pytestmark = pytest.mark.cluster
NUM_REQUESTS = 200
NUM_DISCONNECTS = 100
CLIENTS = 8
TIMEOUT_S = 60.0
SETTLE_S = 20.0
LONG_ANSWER = 400


def stored_bytes():
    """Bytes that live objects take in the object store."""
    reply = get_memory_info_reply(get_state_from_address(ray.get_runtime_context().gcs_address))
    return reply.store_stats.object_store_bytes_used


async def settles_at(limit_bytes):
    for _ in range(int(SETTLE_S / 0.25)):
        if stored_bytes() <= limit_bytes:
            return True
        await asyncio.sleep(0.25)
    return False


async def ask_many(url, bodies):
    """Send all bodies, a few at a time; return the statuses and the most bytes ever stored."""
    waiting = asyncio.Queue()
    for item in bodies:
        waiting.put_nowait(item)
    statuses, peak = [], 0

    async def client(http):
        nonlocal peak
        while not waiting.empty():
            response = await http.post(url, json=waiting.get_nowait())
            statuses.append(response.status_code)
            peak = max(peak, stored_bytes())

    async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
        await asyncio.gather(*(client(http) for _ in range(CLIENTS)))
    return statuses, peak


@pytest.mark.timeout(200)
async def test_the_object_store_is_flat_over_many_requests(cluster, body):
    before = stored_bytes()
    routes = [{"route": "zoom", "tau_roi": 0.05}, {"route": "direct"}, {"tau_gate": 0.5}]
    bodies = [
        body(size=(400, 300), seed=i % 7, max_tokens=3, **routes[i % 3])
        for i in range(NUM_REQUESTS)
    ]
    statuses, peak = await ask_many(f"{cluster.url}/v1/chat/completions", bodies)
    assert statuses == [200] * NUM_REQUESTS
    assert peak > before, "the measure sees nothing"
    assert await settles_at(before)


@pytest.mark.timeout(200)
async def test_the_object_store_is_flat_over_many_disconnects(cluster, body, flow):
    before = stored_bytes()
    limit = asyncio.Semaphore(CLIENTS)

    async def leave(http, i):
        # Some leave before an answer begins, some within it.
        request = body(size=(400, 300), seed=i % 7, max_tokens=LONG_ANSWER, stream=True)
        async with limit:
            try:
                async with http.stream(
                    "POST",
                    f"{cluster.url}/v1/chat/completions",
                    json=request,
                    timeout=0.05 if i % 2 else TIMEOUT_S,
                ) as response:
                    async for _ in response.aiter_lines():
                        break
            except httpx.TimeoutException:
                pass

    async with httpx.AsyncClient() as http:
        await asyncio.gather(*(leave(http, i) for i in range(NUM_DISCONNECTS)))
    assert await settles_at(before)
    assert await no_slot_is_used(flow)


async def test_closing_a_stream_frees_its_slot_before_the_answer_ends(flow, picture):
    request = flow.request(
        single_question("Tell me all."),
        [picture(200, 100)],
        Options(route="direct"),
        Sampling(max_tokens=LONG_ANSWER, temperature=2.0, seed=1),
    )
    async with aclosing(flow.flow.run(request)) as events:
        await anext(events)
        await anext(events)
        assert await num_running(flow) == 1
    assert await no_slot_is_used(flow)


async def num_running(flow):
    return await flow.handles.llm.options(_by_reference=True).num_running.remote()


async def no_slot_is_used(flow):
    for _ in range(int(SETTLE_S / 0.1)):
        if await num_running(flow) == 0:
            return True
        await asyncio.sleep(0.1)
    return False
