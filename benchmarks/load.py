"""How does a running server behave under load? Clients that ask, wait for the answer, ask again.

Works against any OpenAI-compatible server, so that ours can be compared with others.
"""

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

REQUEST_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One answered or failed request.

    Attributes:
        ttft_s: Seconds to the first token; None if none came.
        total_s: Seconds to the end.
        num_tokens: Chunks of text that arrived.
        error: What went wrong, None if nothing did.
    """

    ttft_s: float | None
    total_s: float
    num_tokens: int
    error: str | None


def chat_body(
    picture: bytes, question: str, *, model: str, extra: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Build a streaming chat completion about one PNG or JPEG picture."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    url = f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
    message = {"role": "user", "content": content}
    return {
        "model": model, "messages": [message], "stream": True, "max_tokens": 16, **(extra or {}),
    }  # fmt: skip


async def run_load(
    url: str, bodies: Sequence[dict[str, Any]], *, clients: int, requests: int
) -> tuple[list[Sample], float]:
    """Ask `requests` questions with `clients` clients at once.

    Args:
        url: Base URL of the server, without `/v1`.
        bodies: Taken in turn.
        clients: Requests in flight.
        requests: How many in all.

    Returns:
        A sample for each request, and the seconds that all of them took.
    """
    samples: list[Sample] = []
    waiting = iter(range(requests))
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(
        base_url=url, timeout=REQUEST_TIMEOUT_S, limits=limits, trust_env=False
    ) as http:

        async def client() -> None:
            for number in waiting:
                samples.append(await _ask(http, bodies[number % len(bodies)]))

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())
        return samples, time.perf_counter() - began


async def _ask(http: httpx.AsyncClient, body: dict[str, Any]) -> Sample:
    began, first, num_tokens = time.perf_counter(), None, 0
    error: str | None = None
    try:
        async with http.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != httpx.codes.OK:
                error = f"HTTP {response.status_code}"
                await response.aread()
            else:
                async for line in response.aiter_lines():
                    if _has_text(line):
                        first = first or time.perf_counter() - began
                        num_tokens += 1
    except httpx.HTTPError as failure:
        error = type(failure).__name__
    if error is None and first is None:
        error = "no text"
    return Sample(first, time.perf_counter() - began, num_tokens, error)


def _has_text(line: str) -> bool:
    if not line.startswith("data: {"):
        return False
    choices = json.loads(line.removeprefix("data: ")).get("choices") or [{}]
    return bool(choices[0].get("delta", {}).get("content"))
