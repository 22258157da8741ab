"""What does the encoder do with a request? Resize aside, then encode in batches, and remember.

What was encoded is kept under its content's key. Several requests for the same picture that arrive
together encode it once.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from qzoom.contracts.keys import crop_key, picture_key
from qzoom.contracts.stages import CacheUse, Context, EncodeCoarse, Encoded, EncodeRoi, Timing
from qzoom.contracts.tensors import Buffer, BundleHeader
from qzoom.errors import DeadlineExceeded
from qzoom.model.encoder import VisionEncoder, VisionInput
from qzoom.model.handoff import pack_visual
from qzoom.serving.abandon import StopBetweenLayers
from qzoom.serving.batcher import Batcher
from qzoom.serving.loading import dtype_of, fingerprint_of, open_for
from qzoom.serving.prefixes import ByteLru
from qzoom.serving.references import Reader
from services.encoder.settings import EncoderSettings

Pixels = NDArray[np.uint8]
Prepare = Callable[[Pixels], VisionInput]
Held = tuple[Encoded, Buffer]


class EncoderService:
    """Batches around a `VisionEncoder`.

    Args:
        encoder: The stage.
        model: Names its model in keys, see `contracts.keys.fingerprint`.
        settings: Of the service.
        compute: The replica's compute thread.
    """

    def __init__(
        self, encoder: VisionEncoder, model: bytes, settings: EncoderSettings, compute: Executor
    ) -> None:
        self._encoder, self._model = encoder, model
        self._cache = ByteLru[Held](settings.reuse_bytes)
        self._flights: dict[bytes, asyncio.Future[Held | None]] = {}
        self._prepare = ThreadPoolExecutor(settings.prepare_threads, "encoder-prepare")
        self._batcher = Batcher(
            "encoder",
            self._encode,
            compute,
            max_tokens=settings.max_batch_tokens,
            max_waiting=settings.max_waiting,
            stop=StopBetweenLayers(encoder),
            max_compute_s=settings.max_compute_s,
        )

    @classmethod
    def load(cls, settings: EncoderSettings, compute: Executor) -> Self:
        """Read the vision tower's tensors.

        Raises:
            ValueError: If the checkpoint cannot be used.
        """
        checkpoint = open_for(settings)
        encoder = VisionEncoder.load(checkpoint, device=settings.device, dtype=dtype_of(settings))
        return cls(encoder, fingerprint_of(checkpoint, settings), settings, compute)

    def parameters(self) -> Iterator[nn.Parameter]:
        """All parameters of the stage."""
        return self._encoder.parameters()

    async def encode_coarse(self, request: EncodeCoarse, read: Reader) -> tuple[Encoded, Buffer]:
        """Encode a whole picture.

        Args:
            request: The picture's identity and the budget.
            read: Opens the pixels [H, W, 3] RGB, uint8, where they are needed.

        Raises:
            QZoomError: If the picture cannot be encoded, or not in time.
        """
        context, digest, budget = request.context, request.digest, request.max_tokens
        key = picture_key(self._model, context.tenant, digest, budget)

        def prepare(pixels: Pixels) -> VisionInput:
            return self._encoder.prepare_coarse(pixels, budget)

        return await self._once(key, request.context, read, prepare)

    async def encode_roi(self, request: EncodeRoi, read: Reader) -> tuple[Encoded, Buffer]:
        """Encode a crop of the source picture.

        Args:
            request: The picture's identity, the region and the budget.
            read: Opens the pixels of the whole source picture, where they are needed.

        Raises:
            QZoomError: If the crop cannot be encoded, or not in time.
        """
        context, digest, budget = request.context, request.digest, request.max_tokens
        key = crop_key(self._model, context.tenant, digest, request.proposal, budget)

        def prepare(pixels: Pixels) -> VisionInput:
            return self._encoder.prepare_roi(pixels, request.proposal, budget)

        return await self._once(key, request.context, read, prepare, is_urgent=False)

    def check_health(self) -> None:
        """Raise `Unavailable` if the computation hangs."""
        self._batcher.check_health()

    def close(self) -> None:
        """Stop taking work."""
        self._batcher.close()
        self._prepare.shutdown(wait=False, cancel_futures=True)

    async def _once(
        self,
        key: bytes,
        context: Context,
        read: Reader,
        prepare: Prepare,
        *,
        is_urgent: bool = True,
    ) -> tuple[Encoded, Buffer]:
        """Encode what is not known; who asks for the same meanwhile waits for the result."""
        arrived = time.monotonic()
        held, reused = self._cache.get(key), True
        while held is None:
            flight = self._flights.get(key)
            if flight is None:
                held, reused = await self._fly(key, context, read, prepare, is_urgent), False
            else:
                held = await self._wait_for(flight, context)
        encoded, buffer = held
        use = CacheUse(
            reused=encoded.num_tokens if reused else 0,
            computed=0 if reused else encoded.num_tokens,
            held_bytes=self._cache.num_bytes,
        )
        timing = encoded.timing
        if reused:
            timing = Timing(time.monotonic() - arrived, 0.0, 1)
        cache = use if self._cache.is_on else None
        return replace(encoded, timing=replace(timing, cache=cache)), buffer

    async def _fly(
        self, key: bytes, context: Context, read: Reader, prepare: Prepare, is_urgent: bool
    ) -> Held:
        if not self._cache.is_on:
            return await self._run(key, context, read, prepare, is_urgent)
        flight: asyncio.Future[Held | None] = asyncio.get_running_loop().create_future()
        self._flights[key] = flight
        held = None
        try:
            held = await self._run(key, context, read, prepare, is_urgent)
            self._cache.put(key, held, held[1].nbytes)
            return held
        finally:
            # Whoever waited tries again if this one failed or went away.
            del self._flights[key]
            flight.set_result(held)

    async def _wait_for(
        self, flight: "asyncio.Future[Held | None]", context: Context
    ) -> Held | None:
        try:
            async with asyncio.timeout(max(0.0, context.deadline - time.time())):
                return await asyncio.shield(flight)
        except TimeoutError:
            raise DeadlineExceeded("encoder: the deadline passed in the queue") from None

    async def _run(
        self, key: bytes, context: Context, read: Reader, prepare: Prepare, is_urgent: bool
    ) -> Held:
        (pixels,) = await read([0])
        arrived = time.monotonic()
        loop = asyncio.get_running_loop()
        item, prepare_s = await loop.run_in_executor(self._prepare, _timed, prepare, pixels)
        waited_s = time.monotonic() - arrived - prepare_s
        height, width = item.patches.grid
        # The tower sees the whole grid; dropped tokens are dropped behind it.
        (header, buffer), timing = await self._batcher.submit(
            item,
            height * width,
            context.deadline,
            is_urgent=is_urgent,
            trace=context.traceparent,
        )
        # Resizing is work of this stage; waiting for a thread to do it is queueing.
        total = replace(
            timing, queue_s=timing.queue_s + waited_s, compute_s=timing.compute_s + prepare_s
        )
        return Encoded(item.patches.grid, item.num_tokens, header, total, key), buffer

    def _encode(self, items: list[VisionInput]) -> list[tuple[BundleHeader, Buffer]]:
        return [pack_visual(visual) for visual in self._encoder.encode(items)]


def _timed(prepare: Prepare, pixels: Pixels) -> tuple[VisionInput, float]:
    started = time.monotonic()
    item = prepare(pixels)
    return item, time.monotonic() - started
