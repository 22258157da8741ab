"""Serve's own routing, with our choice in it; its replicas are stood in for, and count their calls.

The same with real replicas: tests/integration/cluster/test_affinity.py.
"""

import asyncio
from collections import Counter

import pytest
from ray.serve._private.common import DeploymentHandleSource, DeploymentID, RequestMetadata
from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import PendingRequest, ReplicaID

from deploy.app import ROUTER, build
from deploy.config import AppConfig
from gateway.routing import FREE_LOAD

DEPLOYMENT = DeploymentID("gate", "app")
PICTURES = [f"picture {number}" for number in range(40)]
SOON_S = 10.0


class Replica:
    """What a router asks of a replica."""

    node_id = availability_zone = ""
    multiplexed_model_ids = frozenset()

    def __init__(self, name, max_ongoing_requests=100):
        self.replica_id = ReplicaID(name, DEPLOYMENT)
        self.max_ongoing_requests = max_ongoing_requests
        self.queue = 0

    async def get_queue_len(self, **_):
        return self.queue


@pytest.fixture
async def router():
    """Make a router as Serve does, from the class that it was sent: `router("a", "b")`."""
    router_class = RequestRouterConfig(request_router_class=ROUTER).get_request_router_class()

    async def build_router(*names, **options):
        made = router_class(
            deployment_id=DEPLOYMENT,
            handle_source=DeploymentHandleSource.REPLICA,
            use_replica_queue_len_cache=True,
        )
        made.initialize_state()
        made.update_replicas([Replica(name, **options) for name in names])
        await asyncio.sleep(0)
        return made

    return build_router


async def send(router, picture, request="one request"):
    """Send one call, which stays in work; return the name of its replica."""
    metadata = RequestMetadata(
        request_id=request, internal_request_id=request, session_id=picture, is_streaming=True
    )
    call = PendingRequest(args=[], kwargs={}, metadata=metadata)
    async with asyncio.timeout(SOON_S):
        replica = await router._choose_replica_for_request(call)
    replica.queue += 1
    router.on_send_request(replica.replica_id)
    return replica.replica_id.unique_id


async def sent(router, picture):
    """Send one call that ends at once."""
    name = await send(router, picture)
    router.curr_replicas[ReplicaID(name, DEPLOYMENT)].queue -= 1
    router.decrement_queue_len_cache(ReplicaID(name, DEPLOYMENT))
    return name


async def homes(router):
    return {picture: await sent(router, picture) for picture in PICTURES}


async def test_a_picture_has_one_home_and_pictures_spread(router):
    one = await router("a", "b", "c")
    first = await homes(one)
    assert await homes(one) == first
    assert set(first.values()) == {"a", "b", "c"}
    # Another gateway, which knows the same replicas in another order.
    assert await homes(await router("c", "a", "b")) == first


async def test_calls_of_one_request_each_get_a_replica(router):
    one = await router("a", "b")
    names = await asyncio.gather(*(send(one, picture) for picture in PICTURES[:12]))
    assert len(names) == 12
    assert one._calls == {}


async def test_an_overloaded_home_is_passed_over(router):
    one = await router("a", "b", "c")
    home = await sent(one, "hot")
    names = [await send(one, "hot") for _ in range(30)]
    assert names[:FREE_LOAD] == [home] * FREE_LOAD
    assert max(Counter(names).values()) <= 13, "1.25 times the mean of 10"
    assert set(names) == {"a", "b", "c"}


async def test_without_a_picture_the_emptier_one_is_taken(router):
    one = await router("a", "b")
    names = [await send(one, "") for _ in range(20)]
    assert Counter(names) == {"a": 10, "b": 10}


async def test_what_a_dead_replica_held_goes_elsewhere_and_the_rest_stays(router):
    one = await router("a", "b", "c")
    before = await homes(one)
    one.on_replica_actor_died(ReplicaID("b", DEPLOYMENT))
    without = await homes(one)
    assert set(without.values()) == {"a", "c"}
    assert all(without[picture] == home for picture, home in before.items() if home != "b")
    one.update_replicas([Replica(name) for name in ("a", "c", "d")])
    after = await homes(one)
    assert set(after.values()) == {"a", "c", "d"}
    assert all(after[p] in {"d", home} for p, home in without.items())


async def test_calls_wait_while_all_are_full_and_go_on_where_there_is_room(router):
    one = await router("a", "b", max_ongoing_requests=1)
    taken = [await send(one, "hot"), await send(one, "hot")]
    assert sorted(taken) == ["a", "b"], "a full home does not hold up its pictures"
    waiting = asyncio.create_task(send(one, "hot"))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    freed = one.curr_replicas[ReplicaID("a", DEPLOYMENT)]
    freed.queue = 0
    assert await waiting == "a"


@pytest.mark.parametrize("reuse", [True, False])
def test_the_four_services_are_routed_so_where_something_is_reused(tmp_path, reuse):
    application = build(AppConfig(model=tmp_path, reuse=reuse))
    services = application._bound_deployment.init_kwargs
    configs = {
        name: service._bound_deployment._deployment_config.request_router_config
        for name, service in services.items()
    }
    assert set(configs) == {"encoder", "gate", "rpn", "llm"}
    assert {config.request_router_class == ROUTER for config in configs.values()} == {reuse}
