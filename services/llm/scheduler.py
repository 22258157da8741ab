"""Which requests does the decoder work on next? Continuous batching in one thread.

Each round gives free slots to the waiting, computes the next chunk of prompts, and decodes one
token for every running request. While some decode, a chunk is short, so that nobody waits longer
than one chunk for the next token. The direct route goes before the zoom route, then the earlier
deadline before the later: a prefill is interrupted between chunks, and some slots are never given
to zooming requests. Requests join and leave between steps; a cancelled one is gone within one step.
"""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from torch import Tensor
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qzoom.contracts.stages import Timing, Token
from qzoom.errors import DeadlineExceeded, Overloaded, Unavailable
from qzoom.model.cache import SlotCache
from qzoom.model.decoder import Decoder, ResumeInput
from qzoom.model.generation import Generation
from qzoom.model.sampling import draw_tokens
from qzoom.serving.abandon import Abandoned, StopBetweenLayers
from qzoom.serving.batcher import peers_of
from qzoom.serving.prefixes import PrefixCache
from qzoom.serving.watchdog import Watchdog
from services.llm.job import Job
from services.llm.progress import Bounds, Prefilling, Running, max_zooms
from services.llm.sharing import Sharing

RETRY_AFTER_S = 1.0
"""What a refused caller is told to wait."""


class Scheduler:
    """Owns the decoder, its KV cache and the thread that runs them.

    Args:
        decoder: The llm stage.
        cache: Its KV slots: the hard bound on requests at once and on their lengths.
        tokenizer: Of the checkpoint.
        eos_ids: Tokens that end an answer.
        prefixes: Keys and values of all layers of blocks that requests share.
        bounds: What limits it beside the slots.
        on_thread_start: Called first in the thread, to prepare it for computing.
    """

    def __init__(
        self,
        decoder: Decoder,
        cache: SlotCache,
        tokenizer: PreTrainedTokenizerBase,
        eos_ids: Collection[int],
        *,
        prefixes: PrefixCache[Tensor],
        bounds: Bounds,
        on_thread_start: Callable[[], None],
    ) -> None:
        self._decoder = decoder
        self._cache = cache
        self._tokenizer = tokenizer
        self._eos_ids = eos_ids
        self._sharing = Sharing(prefixes, cache)
        self._bounds = bounds
        self._max_zooms = max_zooms(cache.num_slots)
        self._on_thread_start = on_thread_start
        self._stop = StopBetweenLayers(decoder)
        self._watchdog = Watchdog("llm", bounds.max_compute_s)
        self._waiting: list[Job] = []
        self._prefilling: list[Prefilling] = []
        self._running: list[Running] = []
        self._changed = threading.Condition()
        self._is_closing = False
        self._defect: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="llm-scheduler", daemon=True)
        self._thread.start()

    @property
    def num_running(self) -> int:
        """Requests that hold a slot."""
        return len(self._prefilling) + len(self._running)

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
            TooLarge: If its prompt does not fit into a slot.
            Overloaded: If too many requests wait already.
            Unavailable: If the scheduler has ended.
        """
        self._cache.check_fits(job.num_tokens)
        with self._changed:
            if self._is_closing or self._defect is not None:
                raise Unavailable("llm: the service is stopping")
            limit = self._bounds.max_waiting
            if len(self._waiting) >= limit:
                raise Overloaded(
                    f"llm: {len(self._waiting)} requests wait, limit {limit}",
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
                    self._admit()
                    if self._prefilling:
                        self._prefill()
                    if self._running:
                        self._step()
        except BaseException as error:
            self._defect = error
            raise
        finally:
            holders = [one.job for one in (*self._prefilling, *self._running)]
            for job in (*self._waiting, *holders):
                job.mailbox.fail(Unavailable("llm: the service is stopping"))

    def _await_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_closing or self._waiting or self._prefilling or self._running
            )
            return not self._is_closing

    def _drop_abandoned(self) -> None:
        """Free what nobody waits for: cancelled, or past its deadline."""
        now = time.time()
        with self._changed:
            self._waiting = [job for job in self._waiting if not self._is_abandoned(job, now)]
        for one in list(self._prefilling):
            if self._is_abandoned(one.job, now):
                self._prefilling.remove(one)
                self._cache.free(one.resumption.slot)
        for running in list(self._running):
            if self._is_abandoned(running.job, now):
                self._leave(running)

    def _is_abandoned(self, job: Job, now: float) -> bool:
        if not job.is_cancelled and now > job.deadline:
            job.mailbox.fail(DeadlineExceeded("llm: the deadline passed"))
            return True
        return job.is_cancelled

    def _admit(self) -> None:
        """Give free slots to the waiting, the most urgent first.

        Who needs a block that another one is computing waits for it.
        """
        claimed = {key for one in self._prefilling for key in one.missing}
        taken: list[Job] = []
        with self._changed:
            free = self._cache.num_free
            holders = (*self._prefilling, *self._running)
            zooms_left = self._max_zooms - sum(one.job.is_zoom for one in holders)
            for job in sorted(self._waiting, key=lambda job: job.urgency) if free else ():
                if job.is_zoom and zooms_left <= 0:
                    continue
                missing = self._sharing.missing(job, self._sharing.past(job))
                if missing & claimed:
                    continue
                claimed |= missing
                zooms_left -= job.is_zoom
                taken.append(job)
                if len(taken) == free:
                    break
            self._waiting = [job for job in self._waiting if job not in taken]
        for job in taken:
            self._begin(job)

    def _begin(self, job: Job) -> None:
        assert job.state is not None, "a job is resumed once"
        slot = self._cache.alloc()
        past = self._sharing.past(job)
        missing = self._sharing.missing(job, past)
        try:
            item = ResumeInput(slot, job.state, job.roi, past)
            resumption = self._decoder.begin(self._cache, item)
        except Exception as error:
            self._cache.free(slot)
            job.mailbox.fail(error)
            return
        self._prefilling.append(Prefilling(job, resumption, past, missing))

    def _prefill(self) -> None:
        """Compute the next chunk of prompts, the most urgent first."""
        budget = self._bounds.chunk_tokens if self._running else self._bounds.max_prefill_tokens
        steps: list[tuple[Prefilling, int]] = []
        for one in sorted(self._prefilling, key=lambda one: one.job.urgency):
            if budget == 0:
                break
            steps.append((one, min(budget, one.resumption.remaining)))
            budget -= steps[-1][1]
        self._advance(steps)

    def _advance(self, steps: Sequence[tuple[Prefilling, int]]) -> None:
        now = time.monotonic()
        for one, _ in steps:
            one.started = one.started or now
        try:
            with self._stop.watching(lambda: all(one.job.is_unwanted for one, _ in steps)):
                logits = self._decoder.advance(self._cache, [(p.resumption, n) for p, n in steps])
        except Abandoned:
            return  # All of them are dropped before the next round.
        except Exception as error:
            if len(steps) > 1:
                # One request spoiled the batch: alone, each meets its own fate.
                for step in steps:
                    self._advance([step])
                return
            ((broken, _),) = steps
            self._prefilling.remove(broken)
            self._cache.free(broken.resumption.slot)
            broken.job.mailbox.fail(error)
            return
        complete = [one for one, _ in steps if not one.resumption.remaining]
        if complete:
            self._start_decoding(complete, logits, [one for one, _ in steps])

    def _start_decoding(
        self, complete: list[Prefilling], logits: Tensor, batch: list[Prefilling]
    ) -> None:
        """Keep what others can share, and draw the first tokens."""
        joined, timings, now = [], [], time.monotonic()
        traces = [one.job.trace for one in batch]
        for one in complete:
            self._prefilling.remove(one)
            self._sharing.keep(one)
            started = one.started or now
            use = self._sharing.use(one)
            peers = peers_of(batch.index(one), traces)
            queue_s, compute_s = started - one.job.arrived, now - started
            timings.append(Timing(queue_s, compute_s, len(batch), use, peers))
            joined.append(Running(one.job, self._generation(one), now))
        self._running += joined
        self._draw(joined, logits, timings)

    def _step(self) -> None:
        """Decode one token for every running request."""
        running = list(self._running)
        slots = [one.generation.slot for one in running]
        last = [one.generation.ids[-1] for one in running]
        try:
            logits = self._decoder.step(self._cache, slots, last)
        except Exception as error:
            for one in running:
                one.job.mailbox.fail(error)
                self._leave(one)
            return
        for one in running:
            one.batch_size = max(one.batch_size, len(running))
        self._draw(running, logits)

    def _draw(
        self, running: list[Running], logits: Tensor, timings: list[Timing] | None = None
    ) -> None:
        """Draw a token for each and send it; the first ones carry the time of the prefill."""
        ids = draw_tokens(logits, [one.generation.sampler for one in running])
        for i, (one, token_id) in enumerate(zip(running, ids, strict=True)):
            one.job.state = one.job.roi = None
            text = one.generation.add(token_id)
            finish = one.generation.finish
            token = Token(text, (token_id,), finish)
            if finish is not None and timings is None:
                decode = Timing(0.0, time.monotonic() - one.started, one.batch_size)
                token = replace(token, decode=decode)
            if timings is not None:
                token = replace(token, resume=timings[i], prompt_tokens=one.job.num_tokens)
            one.job.mailbox.put(token)
            if finish is not None:
                self._leave(one)

    def _generation(self, one: Prefilling) -> Generation:
        # The token that is drawn last needs no room: its keys and values are never computed.
        room = self._cache.max_len - one.job.num_tokens + 1
        slot, sampling = one.resumption.slot, one.job.sampling
        return Generation(slot, sampling, self._tokenizer, self._eos_ids, max_tokens=room)

    def _leave(self, running: Running) -> None:
        self._running.remove(running)
        self._cache.free(running.generation.slot)
