"""Which requests does the decoder work on next? Continuous batching in one thread.

Each round first finishes the prefill of newcomers, as many as there are free slots and as fit a
budget of tokens, then decodes one token for every running request. So requests join and leave
between steps, a long queue of prompts cannot starve those that decode, and a cancelled request is
gone within one step.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from torch import Tensor
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qzoom.contracts.stages import Timing, Token
from qzoom.errors import DeadlineExceeded, Overloaded, Unavailable
from qzoom.model.cache import SlotCache
from qzoom.model.decoder import Decoder, ResumeInput
from qzoom.model.generation import Generation
from qzoom.model.sampling import draw_tokens
from qzoom.serving.abandon import Abandoned, StopBetweenLayers
from qzoom.serving.watchdog import Watchdog
from services.llm.job import Job

RETRY_AFTER_S = 1.0
"""What a refused caller is told to wait."""


@dataclass(eq=False)
class _Running:
    """An answer that holds a slot.

    Attributes:
        job: What was asked.
        generation: What was drawn so far.
        started: Monotonic time of the first token in seconds.
        batch_size: Most requests that shared a step with it.
    """

    job: Job
    generation: Generation
    started: float
    batch_size: int = 1


class Scheduler:
    """Owns the decoder, its KV cache and the thread that runs them.

    Args:
        decoder: The llm stage.
        cache: Its KV slots: the hard bound on requests at once and on their lengths.
        tokenizer: Of the checkpoint.
        eos_ids: Tokens that end an answer.
        max_prefill_tokens: Budget of one prefill; a longer prompt runs alone.
        max_waiting: Most requests that wait for a slot; more are refused.
        max_compute_s: A prefill or step that takes longer hangs.
        on_thread_start: Called first in the thread, to prepare it for computing.
    """

    def __init__(
        self,
        decoder: Decoder,
        cache: SlotCache,
        tokenizer: PreTrainedTokenizerBase,
        eos_ids: Collection[int],
        *,
        max_prefill_tokens: int,
        max_waiting: int,
        max_compute_s: float = math.inf,
        on_thread_start: Callable[[], None],
    ) -> None:
        self._decoder = decoder
        self._cache = cache
        self._tokenizer = tokenizer
        self._eos_ids = eos_ids
        self._max_prefill_tokens = max_prefill_tokens
        self._max_waiting = max_waiting
        self._on_thread_start = on_thread_start
        self._stop = StopBetweenLayers(decoder)
        self._watchdog = Watchdog("llm", max_compute_s)
        self._waiting: deque[Job] = deque()
        self._running: list[_Running] = []
        self._changed = threading.Condition()
        self._is_closing = False
        self._defect: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="llm-scheduler", daemon=True)
        self._thread.start()

    @property
    def num_running(self) -> int:
        """Requests that hold a slot."""
        return len(self._running)

    @property
    def defect(self) -> BaseException | None:
        """What ended the thread, if it ended by itself: the replica must be replaced."""
        return self._defect

    def check_alive(self) -> None:
        """Raise `Unavailable` if the thread hangs."""
        self._watchdog.check()

    def submit(self, job: Job) -> None:
        """Queue a request. Any thread may call this.

        Raises:
            InvalidRequest: If its prompt does not fit into a slot.
            Overloaded: If too many requests wait already.
            Unavailable: If the scheduler has ended.
        """
        self._cache.check_fits(job.num_tokens)
        with self._changed:
            if self._is_closing or self._defect is not None:
                raise Unavailable("llm: the service is stopping")
            if len(self._waiting) >= self._max_waiting:
                raise Overloaded(
                    f"llm: {len(self._waiting)} requests wait, limit {self._max_waiting}",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._waiting.append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Give up a request, wherever it is; its slot is free after the current step."""
        job.is_cancelled = True
        with self._changed:
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """End the thread; requests that are not complete fail with `Unavailable`."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _work(self) -> None:
        self._on_thread_start()
        try:
            while self._await_work():
                self._drop_abandoned()
                with self._watchdog.busy():
                    if newcomers := self._admit():
                        self._resume(newcomers)
                    if self._running:
                        self._step()
        except BaseException as error:
            self._defect = error
            raise
        finally:
            for job in [*self._waiting, *(running.job for running in self._running)]:
                job.mailbox.fail(Unavailable("llm: the service is stopping"))

    def _await_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing or self._waiting or self._running)
            return not self._is_closing

    def _drop_abandoned(self) -> None:
        """Free what nobody waits for: cancelled, or past its deadline."""
        now = time.time()
        with self._changed:
            kept = [job for job in self._waiting if not self._is_abandoned(job, now)]
            self._waiting = deque(kept)
        for running in list(self._running):
            if self._is_abandoned(running.job, now):
                self._leave(running)

    def _is_abandoned(self, job: Job, now: float) -> bool:
        if not job.is_cancelled and now > job.deadline:
            job.mailbox.fail(DeadlineExceeded("llm: the deadline passed"))
            return True
        return job.is_cancelled

    def _admit(self) -> list[tuple[Job, int]]:
        """Give free slots to the waiting, in order, up to the budget of one prefill."""
        newcomers: list[tuple[Job, int]] = []
        budget = self._max_prefill_tokens
        with self._changed:
            while self._waiting and self._cache.num_free:
                if newcomers and self._waiting[0].num_tokens > budget:
                    break
                job = self._waiting.popleft()
                budget -= job.num_tokens
                newcomers.append((job, self._cache.alloc()))
        return newcomers

    def _resume(self, newcomers: list[tuple[Job, int]]) -> None:
        """Finish the prefill of some requests and draw their first tokens."""
        started = time.monotonic()
        try:
            inputs = [_input(job, slot) for job, slot in newcomers]
            with self._stop.watching(lambda: all(job.is_unwanted for job, _ in newcomers)):
                logits = self._decoder.resume(self._cache, inputs)
        except Abandoned:
            for job, slot in newcomers:
                self._is_abandoned(job, time.time())
                self._cache.free(slot)
            return
        except Exception as error:
            self._fail_prefill(newcomers, error)
            return
        now = time.monotonic()
        timings = [
            Timing(started - job.arrived, now - started, len(newcomers)) for job, _ in newcomers
        ]
        joined = [_Running(job, self._generation(job, slot), now) for job, slot in newcomers]
        self._running += joined
        self._draw(joined, logits, timings)

    def _fail_prefill(self, newcomers: list[tuple[Job, int]], error: Exception) -> None:
        for _, slot in newcomers:
            self._cache.free(slot)
        if len(newcomers) == 1:
            newcomers[0][0].mailbox.fail(error)
            return
        # One request spoiled the batch: alone, each meets its own fate.
        for job, _ in newcomers:
            self._resume([(job, self._cache.alloc())])

    def _step(self) -> None:
        """Decode one token for every running request."""
        running = list(self._running)
        try:
            logits = self._decoder.step(
                self._cache,
                [one.generation.slot for one in running],
                [one.generation.ids[-1] for one in running],
            )
        except Exception as error:
            for one in running:
                one.job.mailbox.fail(error)
                self._leave(one)
            return
        for one in running:
            one.batch_size = max(one.batch_size, len(running))
        self._draw(running, logits)

    def _draw(
        self, running: list[_Running], logits: Tensor, timings: list[Timing] | None = None
    ) -> None:
        """Draw a token for each and send it; the first ones carry the time of the prefill."""
        ids = draw_tokens(logits, [one.generation.sampler for one in running])
        for i, (one, token_id) in enumerate(zip(running, ids, strict=True)):
            one.job.state = one.job.roi = None
            text = one.generation.add(token_id)
            finish = one.generation.finish
            decode = None
            if finish is not None and timings is None:
                decode = Timing(0.0, time.monotonic() - one.started, one.batch_size)
            token = Token(text, (token_id,), finish, decode=decode)
            if timings is not None:
                token = replace(token, resume=timings[i], prompt_tokens=one.job.num_tokens)
            one.job.mailbox.put(token)
            if finish is not None:
                self._leave(one)

    def _generation(self, job: Job, slot: int) -> Generation:
        # The token that is drawn last needs no room: its keys and values are never computed.
        room = self._cache.max_len - job.num_tokens + 1
        return Generation(slot, job.sampling, self._tokenizer, self._eos_ids, max_tokens=room)

    def _leave(self, running: _Running) -> None:
        self._running.remove(running)
        self._cache.free(running.generation.slot)


def _input(job: Job, slot: int) -> ResumeInput:
    assert job.state is not None, "a job is resumed once"
    return ResumeInput(slot, job.state, job.roi)
