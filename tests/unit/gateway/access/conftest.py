"""Access around a flow of the test's own, on real stores."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.access.access import Access
from gateway.access.settings import AccessSettings
from gateway.events import Budgets, Delta, Event, Finished, Started, VisualTokens
from qzoom.contracts.conversation import Picture, Text, Turn
from qzoom.contracts.options import Options
from qzoom.contracts.request import AnswerRequest, Envelope
from qzoom.contracts.sampling import Sampling
from qzoom.errors import QZoomError
from qzoom.telemetry.gateway import GatewayTelemetry

PATIENCE_S = 10.0


@dataclass
class CountingFlow:
    """Answers `<question> <number>` in two tokens, waits where it is told to, fails on demand."""

    runs: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)
    visual_tokens: int = 20
    error: Exception | None = None
    break_after: int | None = None

    async def run(self, request: AnswerRequest) -> AsyncGenerator[Event, None]:
        self.runs += 1
        number = self.runs
        if self.error is not None:
            raise self.error
        await self.go.wait()
        spent = VisualTokens(self.visual_tokens, 0, 0)
        yield Started("direct", 0.25, 0.5, (), spent, "0" * 32, Budgets(64, 48))
        for i, text in enumerate((str(request.conversation[-1].parts[-1].text), f" {number}")):
            if self.break_after == i:
                raise QZoomError("broken")
            yield Delta(text, 1)
        yield Finished("stop", 40, 2, {}, None)


@dataclass
class System:
    """One gateway's access, its flow, and its numbers."""

    access: Access
    flow: CountingFlow
    telemetry: GatewayTelemetry

    def __post_init__(self) -> None:
        self.answers = self.access.around(self.flow, self.visual_cost)
        self.flow.go.set()

    async def visual_cost(self, _request: AnswerRequest) -> int:
        return 30

    async def answer(self, request: AnswerRequest) -> str:
        texts = []
        async with aclosing(self.answers.run(request)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    texts.append(event.text)
        return "".join(texts)

    def count(self, name: str, **labels: str) -> float:
        wanted = tuple(sorted(labels.items()))
        return self.telemetry.metrics.snapshot().samples.get((name, wanted), 0.0)


@pytest.fixture
def ask() -> Callable[..., AnswerRequest]:
    """Build a request: `ask("what?", key="k", tenant="acme")`."""

    def build(question: str = "what?", **fields: Any) -> AnswerRequest:
        request = AnswerRequest(
            request_id=str(fields.pop("request_id", "r1")),
            model="m",
            conversation=(Turn("user", (Picture(0), Text(question))),),
            images=(b"picture",),
            image_params=("picture",),
            sampling=Sampling(max_tokens=10),
            options=Options(),
            stream=False,
            deadline=time.time() + 60,
            trace={},
            idempotency_key=fields.pop("key", None),
            tenant=str(fields.pop("tenant", "acme")),
        )
        envelope = Envelope(request_id=request.request_id, received=time.time())
        return replace(request, envelope=envelope, **fields)

    return build


@pytest.fixture
async def make_system(tmp_path) -> AsyncGenerator[Callable[..., System], None]:
    """Start gateways that share one store: `make_system(required=True, store=...)`."""
    systems: list[System] = []

    def make(**settings: Any) -> System:
        store = settings.pop("store", f"sqlite://{tmp_path}/store.sqlite3")
        telemetry = GatewayTelemetry()
        access = Access(AccessSettings(store=store, **settings), telemetry)
        systems.append(System(access, CountingFlow(), telemetry))
        return systems[-1]

    yield make
    for system in systems:
        system.access.close()
        assert system.access._closing is not None
        await system.access._closing
        system.telemetry.close()


async def eventually(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


@pytest.fixture(name="eventually")
def eventually_fixture():
    return eventually
