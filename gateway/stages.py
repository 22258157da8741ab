"""How does the gateway use the stages? One `StageCalls` per request, which owns its state.

A stage that makes state yields its small reply, then one buffer per header of the reply. The
gateway opens the reply alone; the references of the buffers go on to the next stage unopened, and
all of them are dropped when the request ends, fails or is cancelled, but for what `PictureMemory`
keeps (docs/decisions/0003-state-by-reference.md).
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import ray
from numpy.typing import NDArray
from ray.serve.handle import DeploymentHandle

from gateway.admission.times import StageTimes
from gateway.events import StageMs
from gateway.memory import PictureMemory
from gateway.remote import Patience, Reference, Results, streamed, translated
from gateway.reply import Reply
from qzoom.contracts.keys import crop_key, picture_key
from qzoom.contracts.stages import (
    CacheUse,
    Context,
    EncodeCoarse,
    Encoded,
    EncodeRoi,
    Judge,
    Judged,
    Prefill,
    Prefilled,
    Proposal,
    Propose,
    Proposed,
    Resume,
    Timing,
    Token,
)
from qzoom.contracts.tensors import Buffer
from qzoom.telemetry.gateway import RequestTelemetry
from qzoom.telemetry.names import Span


@dataclass(frozen=True, slots=True)
class Source:
    """A decoded picture.

    Attributes:
        pixels: [H, W, 3] RGB, uint8.
        digest: SHA-256 of them.
        stored: The reference of the pixels, or the pixels, once a stage needs them; `StageCalls`
            empties it.
    """

    pixels: NDArray[np.uint8]
    digest: str
    stored: list[Reference]


@dataclass(frozen=True, slots=True)
class Handles:
    """The four services of the application.

    Attributes:
        encoder: Pictures to visual tokens.
        gate: Layers 1..B and the gate.
        rpn: Where to look.
        llm: The answer.
        by_value_bytes: State of a request that is predicted to take at most so much travels inside
            the messages to and from them.
    """

    encoder: DeploymentHandle[Any]
    gate: DeploymentHandle[Any]
    rpn: DeploymentHandle[Any]
    llm: DeploymentHandle[Any]
    by_value_bytes: int = 0


class StageCalls:
    """The stage calls of one request, the owner of its state, and the keeper of its times.

    `has_recalled` tells whether something that was kept of an earlier request was used.

    Used as a context manager: on leaving, every reference is dropped, so that the object store
    frees the state whatever happened.

    Args:
        handles: Of the services.
        telemetry: Of the request.
        times: Told how long the stages took.
        timeout_s: Longest wait for a reply of a stage, or for the next token.
        memory: What the gateway keeps of pictures.
        affinity: Calls with the same text prefer the same replicas, see `gateway.affinity`; empty
            has no preference.
        recalls: Whether to use what is kept. False computes all anew, and replaces what is kept:
            some of it may have died.
        by_value: Whether state travels inside the messages, since it is small; see `streamed`.
    """

    def __init__(
        self,
        handles: Handles,
        telemetry: RequestTelemetry,
        times: StageTimes,
        timeout_s: float,
        memory: PictureMemory,
        affinity: str = "",
        *,
        recalls: bool = True,
        by_value: bool = False,
    ) -> None:
        self._affinity = affinity
        self._by_value = by_value
        self._recalls = recalls
        self._handles = handles
        self._memory = memory
        self._times = times
        self._timeout_s = timeout_s
        self._telemetry = telemetry
        self._owned: list[list[Reference]] = []
        self._is_closed = False
        self._num_held = 0
        self.has_recalled = False
        self.stage_ms: dict[str, StageMs] = {}

    def __enter__(self) -> Self:
        """Begin to own state."""
        return self

    def __exit__(self, *_: object) -> None:
        """Drop all references, whoever still holds a reply."""
        self._is_closed = True
        self._telemetry.remembers(self._memory.num_bytes)
        for references in self._owned:
            references.clear()
        self._owned.clear()
        self._hold(-self._num_held)

    def source(self, pixels: NDArray[np.uint8], digest: str) -> Source:
        """Hold a picture of the request; it is placed in the object store when it is needed.

        Args:
            pixels: [H, W, 3] RGB, uint8.
            digest: SHA-256 of them.
        """
        return Source(pixels, digest, self._own([]))

    async def encode_coarse(
        self, context: Context, source: Source, max_tokens: int | None
    ) -> Reply[Encoded]:
        """Turn a whole picture into visual tokens."""
        key = picture_key(self._memory.model, context.tenant, source.digest, max_tokens)
        request = EncodeCoarse(context, max_tokens, source.digest)
        return await self._encode(Span.ENCODER_COARSE, "encode_coarse", key, request, source)

    async def encode_roi(
        self, context: Context, source: Source, proposal: Proposal, max_tokens: int | None
    ) -> Reply[Encoded]:
        """Turn a crop of the source picture into visual tokens."""
        key = crop_key(self._memory.model, context.tenant, source.digest, proposal, max_tokens)
        request = EncodeRoi(context, proposal, max_tokens, source.digest)
        return await self._encode(Span.ENCODER_ROI, "encode_roi", key, request, source)

    async def prefill(self, request: Prefill, visuals: Sequence[Reference]) -> Reply[Prefilled]:
        """Run layers 1..B and the gate; blocks that are held here are not sent again."""
        pictures = (image.key for image in request.images)
        held = self._memory.blocks(pictures) if self._recalls else {}
        self.has_recalled |= bool(held)
        request = replace(request, held=frozenset(held))
        gate = self._handles.gate
        reply: Reply[Prefilled] = await self._call(
            Span.GATE_PREFILL, gate, "prefill", request, visuals
        )
        message, sent = reply.message, iter(reply.buffers)
        blocks = [held[key] if key in held else next(sent) for key in message.keys]
        for span, key, header, block in zip(
            message.prompt.spans, message.keys, message.blocks, blocks, strict=True
        ):
            picture = request.images[span.image].key
            self._memory.keep_blocks(picture, {key: (block, header.num_bytes)})
        # What was sent is owned already; what was kept is this request's now, too.
        self._own([held[key] for key in message.keys if key in held])
        state = [*blocks, *sent]
        self._owned.append(state)
        return Reply(message, state)

    async def judge(self, request: Judge, state: Sequence[Reference]) -> Reply[Judged]:
        """Run the gate over a state that was computed without it."""
        return await self._call(Span.GATE_PREFILL, self._handles.gate, "judge", request, state)

    async def propose(self, request: Propose, state: Sequence[Reference]) -> Reply[Proposed]:
        """Ask for a region of interest."""
        rpn = self._handles.rpn
        return await self._call(Span.RPN_PROPOSE, rpn, "propose", request, state)

    async def answer(
        self, request: Resume, state: Sequence[Reference]
    ) -> AsyncGenerator[Token, None]:
        """Finish the prefill and decode; closing the generator cancels the decoding."""
        llm, patience = self._handles.llm, Patience(request.context.deadline, self._timeout_s)
        async with self._streamed(llm, "answer", request, state, patience) as results:
            with self._telemetry.call(Span.LLM_RESUME) as call:
                async with translated(llm.deployment_name, patience):
                    token: Token = await results.message()
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
                        token = await results.message()
                assert token.decode is not None, "the last token carries the time of decoding"
                call.replied(token.decode)
                self._count(Span.LLM_DECODE, token.decode)
            yield token

    async def _encode(
        self, span: Span, method: str, key: bytes, request: EncodeCoarse | EncodeRoi, source: Source
    ) -> Reply[Encoded]:
        known = self._memory.encoding(key) if self._recalls else None
        if known is not None:
            self.has_recalled = True
            use = CacheUse(reused=known.message.num_tokens, computed=0)
            message = replace(known.message, timing=Timing(0.0, 0.0, 1, use))
            with self._telemetry.call(span) as call:
                call.replied(message.timing)
            self._count(span, message.timing)
            return Reply(message, self._own(list(known.buffers)))
        if not source.stored:
            await self._store(source)
            self._hold(1)
        encoder = self._handles.encoder
        reply: Reply[Encoded] = await self._call(span, encoder, method, request, source.stored)
        self._memory.keep_encoding(key, reply)
        return reply

    async def _store(self, source: Source) -> None:
        if self._by_value:
            source.stored.append(source.pixels)
            return

        def put() -> None:
            source.stored.append(ray.put(source.pixels))
            # A request that was cancelled meanwhile owns nothing any more. The reference must not
            # be the thread's result: an abandoned result is freed by the cyclic collector only.
            if self._is_closed:
                source.stored.clear()

        # Copying megabytes would hold up the event loop.
        await asyncio.to_thread(put)

    async def _call(
        self,
        span: Span,
        handle: DeploymentHandle[Any],
        method: str,
        request: EncodeCoarse | Prefill | Judge | Propose | EncodeRoi,
        references: Sequence[Reference],
    ) -> Reply[Any]:
        patience = Patience(request.context.deadline, self._timeout_s)
        with self._telemetry.call(span) as call:
            async with (
                self._streamed(handle, method, request, references, patience) as results,
                translated(handle.deployment_name, patience),
            ):
                message = await results.message()
                buffers = [await results.buffer() for _ in range(_num_buffers(request, message))]
            call.replied(message.timing)
        self._count(span, message.timing)
        return Reply(message, self._own(buffers))

    def _streamed(
        self,
        handle: DeploymentHandle[Any],
        method: str,
        request: object,
        state: Sequence[Buffer | Reference],
        patience: Patience,
    ) -> AbstractAsyncContextManager[Results]:
        # What was kept of an earlier request may be a reference where this one's are none.
        by_value = self._by_value and all(isinstance(one, np.ndarray) for one in state)
        return streamed(handle, method, request, state, patience, self._affinity, by_value=by_value)

    def _count(self, span: Span, timing: Timing) -> None:
        if timing.cache is None or timing.cache.computed:
            self._times.observe(span, timing.compute_s)
        before = self.stage_ms.get(span.value, StageMs(0.0, 0.0))
        self.stage_ms[span.value] = StageMs(
            before.queue + timing.queue_s * 1e3, before.compute + timing.compute_s * 1e3
        )

    def _own(self, references: list[Reference]) -> list[Reference]:
        self._owned.append(references)
        self._hold(len(references))
        return references

    def _hold(self, references: int) -> None:
        self._num_held += references
        self._telemetry.holds(references)


def _num_buffers(request: object, message: Encoded | Prefilled | Judged | Proposed) -> int:
    """How many buffers follow a reply."""
    match message, request:
        case Encoded(), _:
            return 1
        case Prefilled(), Prefill():
            return sum(key not in request.held for key in message.keys) + 1
        case _:
            return 0
