"""The load generator against a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from benchmarks.load import chat_body, run_load


def make_server() -> tuple[FastAPI, dict[str, int]]:
    app, seen = FastAPI(), {"now": 0, "most": 0, "all": 0}

    @app.post("/v1/chat/completions")
    async def answer(request: Request) -> Response:
        body = await request.json()
        if body["model"] == "missing":
            return JSONResponse({"error": {}}, status_code=404)
        seen["now"] += 1
        seen["all"] += 1
        seen["most"] = max(seen["most"], seen["now"])

        async def chunks() -> AsyncIterator[str]:
            await asyncio.sleep(0.01)
            for text in ("", "40", "71"):
                yield f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"
            seen["now"] -= 1
            yield "data: [DONE]\n\n"

        return StreamingResponse(chunks(), media_type="text/event-stream")

    return app, seen


async def run_against_server(model: str) -> tuple[list[object], dict[str, int]]:
    app, seen = make_server()
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    body = chat_body(b"\x89PNG...", "what?", model=model)
    try:
        samples, _ = await run_load(f"http://127.0.0.1:{port}", [body], clients=3, requests=12)
    finally:
        server.should_exit = True
        await task
    return list(samples), seen


async def test_every_request_is_counted_and_clients_run_at_once() -> None:
    samples, seen = await run_against_server("builtin")
    assert seen["all"] == len(samples) == 12
    assert 2 <= seen["most"] <= 3
    assert all(s.error is None and s.num_tokens == 2 and s.ttft_s <= s.total_s for s in samples)


async def test_refusals_are_reported_as_errors() -> None:
    samples, _ = await run_against_server("missing")
    assert {s.error for s in samples} == {"HTTP 404"}
