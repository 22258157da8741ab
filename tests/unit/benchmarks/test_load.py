"""The load generator against a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from benchmarks.clients import Item
from benchmarks.contest import Contender, LoadPlan, run_once
from benchmarks.load import Outcome, arrivals, drive
from benchmarks.servers.launch import Endpoint
from qzoom.errors import QZoomError

ITEMS = [Item(b"\x89PNG...", "what?", "4071"), Item(b"\x89PNG...", "where?", "left")]


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
        texts = ["", "40", "71"]
        if body["model"] == "moody":
            texts.append(str(seen["all"]))

        async def chunks() -> AsyncIterator[str]:
            await asyncio.sleep(0.05)
            for text in texts:
                yield f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"
            seen["now"] -= 1
            yield "data: [DONE]\n\n"

        return StreamingResponse(chunks(), media_type="text/event-stream")

    return app, seen


class Served:
    """A server on a free port, in the test's own event loop."""

    def __init__(self, model: str) -> None:
        app, self.seen = make_server()
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning")
        self._server, self._model = uvicorn.Server(config), model

    async def __aenter__(self) -> Endpoint:
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return Endpoint("mine", f"http://127.0.0.1:{port}", self._model)

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._task


async def load(model: str) -> tuple[Outcome, dict[str, int]]:
    served = Served(model)
    async with served as endpoint:
        outcome = await drive(endpoint, ITEMS, rate=60.0, seconds=0.5, seed=3, slo_s=30.0)
    return outcome, served.seen


def test_arrivals_are_random_and_the_same_for_rivals() -> None:
    times = list(arrivals(100.0, 20.0, seed=1))
    assert times == list(arrivals(100.0, 20.0, seed=1))
    assert times != list(arrivals(100.0, 20.0, seed=2))
    assert len(times) == pytest.approx(2000, rel=0.1)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    # Exponential: as much spread as mean.
    assert max(gaps) > 4 / 100


async def test_requests_do_not_wait_for_answers() -> None:
    outcome, seen = await load("builtin")
    assert seen["all"] == len(outcome.samples) == len(list(arrivals(60.0, 0.5, 3)))
    assert seen["most"] > 1
    assert outcome.errors == {}
    assert all(s.text == "4071" and s.num_pieces == 2 for s in outcome.samples)
    assert all(s.ttft_s <= s.total_s for s in outcome.samples)
    assert outcome.attainment == 1.0
    assert outcome.share_right == pytest.approx(0.5, abs=0.05)


async def test_refusals_are_reported_as_errors() -> None:
    outcome, _ = await load("missing")
    assert outcome.errors == {"HTTP 404": len(outcome.samples)}
    assert outcome.goodput == 0
    assert outcome.quantile_ms("ttft_s", 0.5) is None


@pytest.mark.parametrize("model", ["builtin", "moody"])
async def test_an_answer_that_depends_on_the_load_is_found(model: str) -> None:
    async with Served(model) as endpoint:
        run = asyncio.to_thread(
            run_once, Contender(endpoint, "rest", ""), LoadPlan(seconds=0.3, checked=4), 20.0
        )
        if model == "moody":
            with pytest.raises(QZoomError, match="under load"):
                await run
        else:
            assert (await run).errors == {}
