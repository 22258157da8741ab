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
from benchmarks.servers.own_ray import LOOPBACK, own_serve
from deploy.machine import free_port
from gateway.remote import Patience, streamed
from gateway.rest.port import OwnPort

STAGES = ("encoder", "gate", "rpn", "roi", "llm")
DEADLINE_S = 60.0


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
@serve.ingress()
class Front:
    """Calls all stages one after the other.

    Args:
        port: Where it listens by itself, beside Serve's proxy; None listens nowhere.
        by_value: How it calls the stages.
        stages: In the order in which they are called.
    """

    def __init__(self, port: int | None, *stages: DeploymentHandle[Any], by_value: bool) -> None:
        self._port, self._stages, self._by_value = port, stages, by_value

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the HTTP side; called by Serve after the constructor."""
        app = FastAPI()
        app.add_api_route("/pipe", self.pipe, methods=["POST"])
        if self._port is not None:
            self._own = OwnPort(app, LOOPBACK, self._port)
        return app

    async def pipe(self, body: dict[str, Any]) -> dict[str, Any]:
        """Pass the body through."""
        patience = Patience(time.time() + DEADLINE_S)
        for stage in self._stages:
            async with streamed(
                stage, "answer", body, [], patience, by_value=self._by_value
            ) as results:
                body = await results.message()
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

    Arguments: `gateways`; 0 serves the rival. `host` that Serve's proxy listens on. `has_own_port`:
    the gateways are asked without it.
    """
    messages, given = own_output(), arguments()
    if not given["gateways"]:
        live(messages, {"url": serve_app(one_process()), "model": ""}, {})
        return
    port = free_port() if given["has_own_port"] else None
    with own_serve(given["host"]) as url:
        free = {"num_cpus": 0}
        # Ray types a decorated class as the class itself, hence the casts.
        stage, front = cast(Deployment, Noop), cast(Deployment, Front)
        stages = [stage.options(name=name, ray_actor_options=free).bind() for name in STAGES]
        gateways = int(given["gateways"])
        bound = front.options(num_replicas=gateways, ray_actor_options=free).bind(
            port, *stages, by_value=bool(given["by_value"])
        )
        serve.run(bound, name="pipe", route_prefix="/")
        own_url = url if port is None else f"http://{LOOPBACK}:{port}"
        live(messages, {"url": own_url, "model": ""}, {})


if __name__ == "__main__":
    main()
