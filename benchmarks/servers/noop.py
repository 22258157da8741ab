"""Five stages that compute nothing, behind HTTP: what remains is the pipe itself.

Called as the real gateway calls its stages. The same five as functions of one process are the
rival.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

from fastapi import FastAPI
from ray import serve
from ray.serve import Deployment
from ray.serve.handle import DeploymentHandle

from benchmarks.servers.child import arguments, live, own_output
from benchmarks.servers.http import serve_app
from benchmarks.servers.own_ray import own_serve
from gateway.remote import Patience, streamed

STAGES = ("encoder", "gate", "rpn", "roi", "llm")
DEADLINE_S = 60.0

api = FastAPI()


@serve.deployment
class Noop:
    """A stage that answers at once."""

    async def answer(
        self, request: dict[str, Any], references: Sequence[Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the request."""
        del references
        yield request


@serve.deployment(max_ongoing_requests=512)
@serve.ingress(api)
class Front:
    """Calls all stages one after the other."""

    def __init__(self, *stages: DeploymentHandle[Any]) -> None:
        self._stages = stages

    @api.post("/pipe")
    async def pipe(self, body: dict[str, Any]) -> dict[str, Any]:
        """Pass the body through."""
        patience = Patience(time.time() + DEADLINE_S)
        for stage in self._stages:
            async with streamed(stage, "answer", body, [], patience) as results:
                body = await (await anext(results))
        return body


def one_process() -> FastAPI:
    """Build the rival: the same five calls without a hop."""
    app = FastAPI()

    async def stage(request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        yield request

    @app.post("/pipe")
    async def pipe(body: dict[str, Any]) -> dict[str, Any]:
        for _ in STAGES:
            async for answered in stage(body):
                body = answered
        return body

    return app


def main() -> None:
    """Serve until the input ends.

    Arguments: `gateways`; 0 serves the rival. `host` that HTTP listens on.
    """
    messages, given = own_output(), arguments()
    if not given["gateways"]:
        live(messages, {"url": serve_app(one_process()), "model": ""}, {})
        return
    with own_serve(given["host"]) as url:
        free = {"num_cpus": 0}
        # Ray types a decorated class as the class itself, hence the casts.
        stage, front = cast(Deployment, Noop), cast(Deployment, Front)
        stages = [stage.options(name=name, ray_actor_options=free).bind() for name in STAGES]
        gateways = int(given["gateways"])
        bound = front.options(num_replicas=gateways, ray_actor_options=free).bind(*stages)
        serve.run(bound, name="pipe", route_prefix="/")
        live(messages, {"url": url, "model": ""}, {})


if __name__ == "__main__":
    main()
