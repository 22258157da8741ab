"""A client of Q-Zoom Serve, over REST or gRPC, with or without asyncio. Needs no torch and no Ray.

    from qzoom.client import Client

    with Client("http://127.0.0.1:8000") as client:      # or grpc://127.0.0.1:9000
        answer = client.ask("mug.png", "Which code is on the mug?", explain=True)
    print(answer.text, answer.route, answer.boxes)
    answer.overlay("mug.png").save("where-it-looked.png")

Refusals are raised as the errors of `qzoom.errors`, the same ones over both protocols; where there
is no server at all, as `NotConnected`.
"""

from qzoom.client.answers import Answer, Brownout, Budgets, Region, StageMs, VisualTokens
from qzoom.client.asynchronous import AsyncClient
from qzoom.client.failures import BrokenAnswer, NotConnected
from qzoom.client.question import Options, Question
from qzoom.client.retries import Retries
from qzoom.client.synchronous import Client

__all__ = [
    "Answer",
    "AsyncClient",
    "BrokenAnswer",
    "Brownout",
    "Budgets",
    "Client",
    "NotConnected",
    "Options",
    "Question",
    "Region",
    "Retries",
    "StageMs",
    "VisualTokens",
]
