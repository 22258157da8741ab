"""Several questions about one picture at once: `many_at_once.py PICTURE QUESTION...`.

Each is streamed: over gRPC where QZOOM_GRPC is set, else over REST; only the address differs.
"""

import asyncio
import os
import sys

from qzoom.client import AsyncClient


async def ask(client: AsyncClient, picture: str, question: str) -> None:
    """Ask one question; print its answer when it is complete."""
    async with client.stream(picture, question) as stream:
        pieces = [piece async for piece in stream]
    print(f"{question} -> {''.join(pieces)} ({stream.answer.route})")


async def main() -> None:
    """Ask all questions together."""
    picture, *questions = sys.argv[1:]
    rest = os.environ.get("QZOOM_URL", "http://127.0.0.1:8000")
    async with AsyncClient(rest) as client:
        [model, *_] = await client.models()
    url = f"grpc://{os.environ['QZOOM_GRPC']}" if "QZOOM_GRPC" in os.environ else rest
    async with AsyncClient(url, model=model) as client, asyncio.TaskGroup() as group:
        for question in questions:
            group.create_task(ask(client, picture, question))


asyncio.run(main())
