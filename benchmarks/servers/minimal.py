"""The server that most teams write first: FastAPI, one worker thread, a queue, perhaps a batch."""

import asyncio
import base64
import io
import json
import queue
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image

from benchmarks.servers.http import serve_app
from qzoom.model.images import Pixels

MODEL = "rival"


@dataclass(frozen=True, slots=True)
class Job:
    """One request.

    Attributes:
        picture: [H, W, 3] RGB, uint8.
        question: About the picture.
        max_tokens: Most tokens of the answer.
        method: The `qzoom` object of the request; rivals without the method ignore it.
        send: Takes a piece of the answer; None ends it. Any thread may call it.
    """

    picture: Pixels
    question: str
    max_tokens: int
    method: dict[str, Any]
    send: Callable[[str | None], None]


Answerer = Callable[[list[Job]], None]
"""Answers a batch, calling each job's `send`."""


class Worker:
    """One thread that answers, in order of arrival.

    Args:
        answer: Runs a batch.
        max_batch: Most requests of a batch; what waits when the last batch ends is the next one.
        threads: Of these workers.
    """

    def __init__(self, answer: Answerer, *, max_batch: int, threads: int = 1) -> None:
        self._answer, self._max_batch = answer, max_batch
        self._jobs: queue.Queue[Job] = queue.Queue()
        for _ in range(threads):
            threading.Thread(target=self._work, daemon=True).start()

    def submit(self, job: Job) -> None:
        """Queue a request."""
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            batch = [self._jobs.get()]
            while len(batch) < self._max_batch and not self._jobs.empty():
                batch.append(self._jobs.get())
            try:
                self._answer(batch)
            finally:
                for job in batch:
                    job.send(None)


def create_app(worker: Worker) -> FastAPI:
    """Build the one route that the load generator needs."""
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def answer(body: dict[str, Any]) -> Response:
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[str | None]()

        def send(piece: str | None) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        picture, question = await asyncio.to_thread(_read, body)
        worker.submit(Job(picture, question, int(body["max_tokens"]), body.get("qzoom", {}), send))
        if not body.get("stream"):
            text = "".join([piece async for piece in _until_end(pieces)])
            message = {"role": "assistant", "content": text}
            return JSONResponse({"choices": [{"index": 0, "message": message}]})

        async def events() -> AsyncIterator[str]:
            async for piece in _until_end(pieces):
                choice = {"index": 0, "delta": {"content": piece}}
                yield f"data: {json.dumps({'choices': [choice]})}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


def serve(worker: Worker) -> dict[str, str]:
    """Serve answers on a free port; return what the starter must know."""
    return {"url": serve_app(create_app(worker)), "model": MODEL}


async def _until_end(pieces: "asyncio.Queue[str | None]") -> AsyncIterator[str]:
    while (piece := await pieces.get()) is not None:
        yield piece


def _read(body: dict[str, Any]) -> tuple[Pixels, str]:
    parts = body["messages"][-1]["content"]
    url = next(p["image_url"]["url"] for p in parts if p["type"] == "image_url")
    question = next(p["text"] for p in parts if p["type"] == "text")
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    return np.asarray(image.convert("RGB")), question
