"""What does the encoder do with a request? Resize aside, then encode in batches."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from qzoom.contracts.stages import Context, EncodeCoarse, Encoded, EncodeRoi, Timing
from qzoom.contracts.tensors import Buffer, BundleHeader
from qzoom.model.encoder import VisionEncoder, VisionInput
from qzoom.model.handoff import pack_visual
from qzoom.serving.abandon import StopBetweenLayers
from qzoom.serving.batcher import Batcher
from qzoom.serving.loading import dtype_of, open_for
from services.encoder.settings import EncoderSettings

Pixels = NDArray[np.uint8]


class EncoderService:
    """Batches around a `VisionEncoder`.

    Args:
        encoder: The stage.
        settings: Of the service.
        compute: The replica's compute thread.
    """

    def __init__(
        self, encoder: VisionEncoder, settings: EncoderSettings, compute: Executor
    ) -> None:
        self._encoder = encoder
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
        encoder = VisionEncoder.load(
            open_for(settings), device=settings.device, dtype=dtype_of(settings)
        )
        return cls(encoder, settings, compute)

    def parameters(self) -> Iterator[nn.Parameter]:
        """All parameters of the stage."""
        return self._encoder.parameters()

    async def encode_coarse(self, request: EncodeCoarse, pixels: Pixels) -> tuple[Encoded, Buffer]:
        """Encode a whole picture.

        Args:
            request: The budget.
            pixels: [H, W, 3] RGB, uint8.

        Raises:
            QZoomError: If the picture cannot be encoded, or not in time.
        """
        return await self._run(
            request.context, lambda: self._encoder.prepare_coarse(pixels, request.max_tokens)
        )

    async def encode_roi(self, request: EncodeRoi, pixels: Pixels) -> tuple[Encoded, Buffer]:
        """Encode a crop of the source picture.

        Args:
            request: The region and the budget.
            pixels: [H, W, 3] RGB, uint8; the whole source picture.

        Raises:
            QZoomError: If the crop cannot be encoded, or not in time.
        """
        return await self._run(
            request.context,
            lambda: self._encoder.prepare_roi(pixels, request.proposal, request.max_tokens),
        )

    def check_health(self) -> None:
        """Raise `Unavailable` if the computation hangs."""
        self._batcher.check_health()

    def close(self) -> None:
        """Stop taking work."""
        self._batcher.close()
        self._prepare.shutdown(wait=False, cancel_futures=True)

    async def _run(
        self, context: Context, prepare: Callable[[], VisionInput]
    ) -> tuple[Encoded, Buffer]:
        arrived = time.monotonic()
        loop = asyncio.get_running_loop()
        item, prepare_s = await loop.run_in_executor(self._prepare, _timed, prepare)
        waited_s = time.monotonic() - arrived - prepare_s
        height, width = item.patches.grid
        # The tower sees the whole grid; dropped tokens are dropped behind it.
        (header, buffer), timing = await self._batcher.submit(
            item, height * width, context.deadline
        )
        # Resizing is work of this stage; waiting for a thread to do it is queueing.
        total = Timing(timing.queue_s + waited_s, timing.compute_s + prepare_s, timing.batch_size)
        return Encoded(item.patches.grid, item.num_tokens, header, total), buffer

    def _encode(self, items: list[VisionInput]) -> list[tuple[BundleHeader, Buffer]]:
        return [pack_visual(visual) for visual in self._encoder.encode(items)]


def _timed(prepare: Callable[[], VisionInput]) -> tuple[VisionInput, float]:
    started = time.monotonic()
    item = prepare()
    return item, time.monotonic() - started
