"""What does the llm do with a request? Hand it to the scheduler and pass its tokens on."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Self

from torch import Tensor, nn

from qzoom.contracts.stages import Resume, Token
from qzoom.errors import Unavailable
from qzoom.model.decoder import Decoder
from qzoom.model.loading import Checkpoint
from qzoom.model.stack import TokenLayerCounter
from qzoom.serving.loading import dtype_of, open_for
from qzoom.serving.prefixes import PrefixCache
from qzoom.serving.references import Reader
from services.llm.job import Job, Prefix
from services.llm.mailbox import Mailbox
from services.llm.opening import open_state, shared_blocks
from services.llm.progress import Bounds
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
        self._prefixes = PrefixCache[Tensor](settings.reuse_bytes, lambda kv: kv.nbytes)
        self._scheduler = Scheduler(
            decoder,
            decoder.new_cache(_num_slots(decoder, settings), settings.max_len),
            checkpoint.tokenizer,
            checkpoint.eos_ids,
            prefixes=self._prefixes,
            bounds=Bounds(
                settings.max_prefill_tokens,
                settings.chunk_tokens,
                settings.max_waiting,
                settings.max_compute_s,
            ),
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

    async def answer(self, request: Resume, read: Reader) -> AsyncGenerator[Token, None]:
        """Write one answer; closing the generator frees its slot within one step.

        Args:
            request: The coarse prompt, the route and how to draw tokens.
            read: Opens the state of the blocks, then of the suffix, then the RoI and the pictures
                behind it on the zoom route, where it is needed.

        Yields:
            Tokens; the last one says why the answer ended.

        Raises:
            InvalidRequest: If the prompt does not fit.
            QZoomError: If the answer cannot be written, or not in time.
        """
        mailbox = Mailbox(asyncio.get_running_loop())
        tail = None
        if request.proposal is not None and request.roi is not None:
            prompt = request.prefilled.prompt
            tail = self._decoder.tail(prompt, request.proposal, request.roi.grid)
        shared = shared_blocks(request, tail)
        found = self._prefixes.find(shared.keys)
        opened = await open_state(request, len(found), read)
        job = Job(
            state=opened.state,
            roi=opened.roi,
            num_tokens=shared.num_tokens,
            sampling=request.sampling,
            deadline=request.context.deadline,
            mailbox=mailbox,
            prefix=Prefix(shared.keys, shared.ends, found),
            trace=request.context.traceparent,
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


def _num_slots(decoder: Decoder, settings: LlmSettings) -> int:
    """Fit the slots into the memory for keys and values.

    Raises:
        ValueError: If it does not suffice for one.
    """
    if settings.max_kv_bytes is None:
        return settings.max_slots
    one = decoder.slot_bytes(settings.max_len)
    if one > settings.max_kv_bytes:
        raise ValueError(
            f"max_kv_bytes is {settings.max_kv_bytes}, a slot of {settings.max_len} positions "
            f"takes {one}"
        )
    return min(settings.max_slots, settings.max_kv_bytes // one)
