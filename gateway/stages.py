"""How does the gateway use the stages? One `StageCalls` per request, which owns its state.

A stage that makes state yields its small reply, then one buffer per header of the reply. The
gateway opens the reply alone; the references of the buffers go on to the next stage unopened, and
all of them are dropped when the request ends, fails or is cancelled
(docs/decisions/0003-state-by-reference.md).
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

import numpy as np
import ray
from numpy.typing import NDArray
from ray.serve.handle import DeploymentHandle

from gateway.admission.times import StageTimes
from gateway.events import StageMs
from gateway.remote import Patience, Reference, streamed, translated
from qzoom.contracts.stages import (
    EncodeCoarse,
    Encoded,
    EncodeRoi,
    Prefill,
    Prefilled,
    Propose,
    Proposed,
    Resume,
    Timing,
    Token,
)
from qzoom.telemetry.gateway import RequestTelemetry
from qzoom.telemetry.names import Span

Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Reply(Generic[Message]):
    """What a stage answered.

    Attributes:
        message: The small reply.
        buffers: References of the buffers that its headers describe; `StageCalls` empties it.
    """

    message: Message
    buffers: list[Reference] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Handles:
    """The four services of the application."""

    encoder: DeploymentHandle[Any]
    gate: DeploymentHandle[Any]
    rpn: DeploymentHandle[Any]
    llm: DeploymentHandle[Any]


class StageCalls:
    """The stage calls of one request, the owner of its state, and the keeper of its times.

    Used as a context manager: on leaving, every reference is dropped, so that the object store
    frees the state whatever happened.

    Args:
        handles: Of the services.
        telemetry: Of the request.
        times: Told how long the stages took.
        timeout_s: Longest wait for a reply of a stage, or for the next token.
    """

    def __init__(
        self, handles: Handles, telemetry: RequestTelemetry, times: StageTimes, timeout_s: float
    ) -> None:
        self._handles = handles
        self._times = times
        self._timeout_s = timeout_s
        self._telemetry = telemetry
        self._owned: list[list[Reference]] = []
        self._is_closed = False
        self.stage_ms: dict[str, StageMs] = {}

    def __enter__(self) -> Self:
        """Begin to own state."""
        return self

    def __exit__(self, *_: object) -> None:
        """Drop all references, whoever still holds a reply."""
        self._is_closed = True
        for references in self._owned:
            references.clear()
        self._owned.clear()

    async def put_pixels(self, pixels: NDArray[np.uint8]) -> list[Reference]:
        """Place a picture in the object store, once for all calls that read it.

        Args:
            pixels: [H, W, 3] RGB, uint8.

        Returns:
            A list with the reference.
        """
        references = self._own([])

        def put() -> None:
            references.append(ray.put(pixels))
            # A request that was cancelled meanwhile owns nothing any more. The reference must not
            # be the thread's result: an abandoned result is freed by the cyclic collector only.
            if self._is_closed:
                references.clear()

        # Copying megabytes would hold up the event loop.
        await asyncio.to_thread(put)
        return references

    async def encode_coarse(
        self, request: EncodeCoarse, pixels: Sequence[Reference]
    ) -> Reply[Encoded]:
        """Turn a whole picture into visual tokens."""
        encoder = self._handles.encoder
        return await self._call(Span.ENCODER_COARSE, encoder, "encode_coarse", request, pixels, 1)

    async def prefill(self, request: Prefill, visuals: Sequence[Reference]) -> Reply[Prefilled]:
        """Run layers 1..B and the gate."""
        gate = self._handles.gate
        return await self._call(Span.GATE_PREFILL, gate, "prefill", request, visuals, 2)

    async def propose(self, request: Propose, state: Sequence[Reference]) -> Reply[Proposed]:
        """Ask for a region of interest."""
        rpn = self._handles.rpn
        return await self._call(Span.RPN_PROPOSE, rpn, "propose", request, state, 0)

    async def encode_roi(self, request: EncodeRoi, pixels: Sequence[Reference]) -> Reply[Encoded]:
        """Turn a crop of the source picture into visual tokens."""
        encoder = self._handles.encoder
        return await self._call(Span.ENCODER_ROI, encoder, "encode_roi", request, pixels, 1)

    async def answer(
        self, request: Resume, state: Sequence[Reference]
    ) -> AsyncGenerator[Token, None]:
        """Finish the prefill and decode; closing the generator cancels the decoding."""
        llm, patience = self._handles.llm, Patience(request.context.deadline, self._timeout_s)
        async with streamed(llm, "answer", request, state, patience) as results:
            with self._telemetry.call(Span.LLM_RESUME) as call:
                async with translated(llm.deployment_name, patience):
                    token: Token = await (await anext(results))
                assert token.resume is not None, "the first token carries the time of the prefill"
                call.replied(token.resume)
                self._count(Span.LLM_RESUME, token.resume)
            if token.finish is not None:
                yield token
                return
            with self._telemetry.call(Span.LLM_DECODE) as call:
                while token.finish is None:
                    yield token
                    async with translated(llm.deployment_name, patience):
                        token = await (await anext(results))
                assert token.decode is not None, "the last token carries the time of decoding"
                call.replied(token.decode)
                self._count(Span.LLM_DECODE, token.decode)
            yield token

    async def _call(
        self,
        span: Span,
        handle: DeploymentHandle[Any],
        method: str,
        request: EncodeCoarse | Prefill | Propose | EncodeRoi,
        references: Sequence[Reference],
        num_buffers: int,
    ) -> Reply[Any]:
        patience = Patience(request.context.deadline, self._timeout_s)
        with self._telemetry.call(span) as call:
            async with (
                streamed(handle, method, request, references, patience) as results,
                translated(handle.deployment_name, patience),
            ):
                message = await (await anext(results))
                buffers = [await anext(results) for _ in range(num_buffers)]
            call.replied(message.timing)
        self._count(span, message.timing)
        return Reply(message, self._own(buffers))

    def _count(self, span: Span, timing: Timing) -> None:
        self._times.observe(span, timing.compute_s)
        before = self.stage_ms.get(span.value, StageMs(0.0, 0.0))
        self.stage_ms[span.value] = StageMs(
            before.queue + timing.queue_s * 1e3, before.compute + timing.compute_s * 1e3
        )

    def _own(self, references: list[Reference]) -> list[Reference]:
        self._owned.append(references)
        return references
