"""Redis is stopped, started and made to hang under load: no answer waits for it, none is lost."""

import asyncio

import httpx
import pytest
from ray import serve

from deploy.app import build
from deploy.config import AppConfig

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.chaos,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]
NAME = "with-redis"
NUM_REQUESTS = 60
CLIENTS = 4
TIMEOUT_S = 60.0
HANG_MS = 3000


@pytest.fixture
def with_redis(cluster, own_redis):
    """The same model as an application of its own, whose two gateways share a Redis."""
    threads = {"threads": 1}
    gateway = {
        "store": own_redis.url,
        "replicas": 2,
        "requests_per_minute": 100_000,
        "brownout_steps": 0,
        "admit_requests": 32,
    }
    llm = {**threads, "max_slots": 8, "max_len": 1024}
    config = AppConfig(
        model=cluster.checkpoint,
        model_name=cluster.model,
        gateway=gateway,
        encoder=threads,
        gate=threads,
        rpn=threads,
        llm=llm,
    )
    serve.run(build(config), name=NAME, route_prefix=f"/{NAME}")
    yield f"{cluster.url}/{NAME}"
    serve.delete(NAME)


async def store_is(url, state):
    """Wait until every look at the gateways says so."""
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
        for _ in range(60):
            looks = [(await http.get(f"{url}/readyz")).json() for _ in range(6)]
            if all(look.get("store", {}).get("state") == state for look in looks):
                return
            await asyncio.sleep(0.5)
    pytest.fail(f"the store is not {state}")


async def test_redis_stops_starts_and_hangs_under_load(with_redis, own_redis, load, figures):
    load.url = f"{with_redis}/v1/chat/completions"
    await store_is(with_redis, "ok")
    asking = asyncio.create_task(load.run(NUM_REQUESTS, CLIENTS))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(own_redis.stop)
    await store_is(with_redis, "degraded")
    await asyncio.to_thread(own_redis.start)
    await store_is(with_redis, "ok")
    with own_redis.client() as client:
        client.execute_command("CLIENT", "PAUSE", HANG_MS, "ALL")
    again = asyncio.create_task(load.run(NUM_REQUESTS, CLIENTS))
    await asyncio.gather(asking, again)
    await store_is(with_redis, "ok")
    tally = load.check()
    figures(tally, gone="Redis, twice")
    assert tally.answered == 2 * NUM_REQUESTS
