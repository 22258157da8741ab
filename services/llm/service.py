"""What does the llm do with a request? Hand it to the scheduler and pass its tokens on."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Self

from torch import nn

from qzoom.contracts.stages import Resume, Token
from qzoom.contracts.tensors import Buffer
from qzoom.errors import Unavailable
from qzoom.model.decoder import Decoder, Roi
from qzoom.model.handoff import unpack_state, unpack_visual
from qzoom.model.loading import Checkpoint
from qzoom.model.stack import TokenLayerCounter
from qzoom.model.state import PrefillState
from qzoom.serving.loading import dtype_of, open_for
from services.llm.job import Job
from services.llm.mailbox import Mailbox
from services.llm.scheduler import Scheduler
from services.llm.settings import LlmSettings

CLOSE_S = 5.0


class LlmService:
    """Answers requests with a `Decoder`.

    Args:
        decoder: The stage.
        checkpoint: What it was loaded from.
        settings: Of the service.
        on_thread_start: Prepares the scheduler's thread for computing.
    """

    def __init__(
        self,
        decoder: Decoder,
        checkpoint: Checkpoint,
        settings: LlmSettings,
        on_thread_start: Callable[[], None],
    ) -> None:
        self._decoder = decoder
        self._scheduler = Scheduler(
            decoder,
            decoder.new_cache(settings.max_slots, settings.max_len),
            checkpoint.tokenizer,
            checkpoint.eos_ids,
            max_prefill_tokens=settings.max_prefill_tokens,
            max_waiting=settings.max_waiting,
            max_compute_s=settings.max_compute_s,
            on_thread_start=on_thread_start,
        )

    @classmethod
    def load(cls, settings: LlmSettings, on_thread_start: Callable[[], None]) -> Self:
        """Read the embeddings, all decoder layers, norm and head; reserve the KV cache.

        Raises:
            ValueError: If the checkpoint cannot be used.
        """
        checkpoint = open_for(settings)
        decoder = Decoder.load(
            checkpoint,
            device=settings.device,
            dtype=dtype_of(settings),
            trim=settings.trim,
            counter=TokenLayerCounter() if settings.count_work else None,
        )
        return cls(decoder, checkpoint, settings, on_thread_start)

    def parameters(self) -> Iterator[nn.Parameter]:
        """All parameters of the stage."""
        return self._decoder.parameters()

    @property
    def work(self) -> dict[tuple[str, int], int]:
        """Tokens that were computed by stack and layer; empty where nothing is counted."""
        return {} if self._decoder.counter is None else dict(self._decoder.counter.pairs)

    @property
    def num_running(self) -> int:
        """Requests that hold a KV slot."""
        return self._scheduler.num_running

    async def answer(
        self, request: Resume, buffers: Sequence[Buffer]
    ) -> AsyncGenerator[Token, None]:
        """Write one answer; closing the generator frees its slot within one step.

        Args:
            request: The coarse prompt, the route and how to draw tokens.
            buffers: Prefix, suffix, then the RoI and the pictures behind it on the zoom route.

        Yields:
            Tokens; the last one says why the answer ended.

        Raises:
            InvalidRequest: If the prompt does not fit.
            QZoomError: If the answer cannot be written, or not in time.
        """
        mailbox = Mailbox(asyncio.get_running_loop())
        roi_grid = request.roi.grid if request.roi else None
        job = Job(
            state=_state(request, buffers),
            roi=_roi(request, buffers),
            num_tokens=self._decoder.num_tokens(
                request.prefilled.prompt, request.proposal, roi_grid
            ),
            sampling=request.sampling,
            deadline=request.context.deadline,
            mailbox=mailbox,
        )
        self._scheduler.submit(job)
        try:
            async with aclosing(mailbox.read()) as tokens:
                async for token in tokens:
                    yield token
        finally:
            self._scheduler.cancel(job)

    def check_health(self) -> None:
        """Raise if the scheduler's thread has ended or hangs.

        Raises:
            Unavailable: Naming the defect that ended it.
        """
        self._scheduler.check_alive()
        if self._scheduler.defect is not None:
            raise Unavailable(f"llm: the scheduler ended: {self._scheduler.defect!r}")

    def close(self) -> None:
        """Stop; answers that are not complete fail."""
        self._scheduler.close(CLOSE_S)


def _state(request: Resume, buffers: Sequence[Buffer]) -> PrefillState:
    reply = request.prefilled
    return unpack_state(reply.prompt, (reply.prefix, buffers[0]), (reply.suffix, buffers[1]))


def _roi(request: Resume, buffers: Sequence[Buffer]) -> Roi | None:
    if request.proposal is None or request.roi is None:
        return None
    encodings = (request.roi, *request.later_images)
    visual, *later = (
        unpack_visual(encoded.grid, encoded.visual, buffer)
        for encoded, buffer in zip(encodings, buffers[2:], strict=True)
    )
    return Roi(request.proposal, visual, tuple(later))
