"""Gateways that listen by themselves, on real sockets."""

import asyncio
import socket

import httpx
import pytest
from fastapi import FastAPI, Request

from gateway.rest.port import OwnPort
from gateway.rest.proxy import guarded
from qzoom.contracts.request import Limits
from qzoom.errors import Unavailable

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])


def named(name: str) -> FastAPI:
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def whoami(request: Request) -> dict[str, object]:
        return {"name": name, "bytes": len(await request.body())}

    @app.get("/wait")
    async def wait() -> str:
        await asyncio.sleep(0.3)
        return "done"

    return app


async def post(port: int, body: bytes = b"{}") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.post(f"http://{LOOPBACK}:{port}/v1/chat/completions", content=body)


async def ended(port: OwnPort) -> None:
    port.close()
    async with asyncio.timeout(20):
        await port.ended()


async def test_gateways_share_a_port_and_each_can_go() -> None:
    number = free_port()
    first = OwnPort(named("first"), LOOPBACK, number)
    second = OwnPort(named("second"), LOOPBACK, number)
    # The kernel deals connections out by their addresses: that one gets all of 64 has 2 ** -63.
    seen = {(await post(number)).json()["name"] for _ in range(64)}
    assert seen == {"first", "second"}
    await ended(first)
    assert {(await post(number)).json()["name"] for _ in range(16)} == {"second"}
    await ended(second)
    with pytest.raises(httpx.ConnectError):
        await post(number)


async def test_requests_that_run_are_answered_before_it_ends() -> None:
    number = free_port()
    port = OwnPort(named("only"), LOOPBACK, number)
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        waiting = asyncio.create_task(http.get(f"http://{LOOPBACK}:{number}/wait"))
        await asyncio.sleep(0.1)
        await ended(port)
        assert (await waiting).json() == "done"


async def test_bodies_are_bounded_as_behind_the_proxy() -> None:
    number = free_port()
    port = OwnPort(guarded(named("only"), Limits(max_body_bytes=1024)), LOOPBACK, number)
    assert (await post(number, b"x" * 1024)).json() == {"name": "only", "bytes": 1024}
    refused = await post(number, b"x" * 1025)
    assert refused.status_code == 413
    assert "1024" in refused.json()["error"]["message"]
    assert refused.headers["x-request-id"]
    await ended(port)


async def test_a_port_of_somebody_else_is_named() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"cannot listen on {LOOPBACK}:{number}"):
            OwnPort(named("late"), LOOPBACK, number)
