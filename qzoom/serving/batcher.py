"""Which waiting requests run together? A bounded queue before one compute thread.

While a batch runs, what arrives waits; when it ends, the next batch takes the waiting in order, as
many as fit a budget of tokens. So a lone request never waits for company, and under load batches
fill by themselves. What nobody waits for any more is not computed: it leaves the queue, and a batch
that all have left stops between two layers. Runs on the event loop of a replica; the computation
runs in its thread.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

from qzoom.contracts.stages import Timing
from qzoom.errors import DeadlineExceeded, Overloaded, Unavailable
from qzoom.serving.abandon import Abandoned, StopBetweenLayers
from qzoom.serving.watchdog import Watchdog

Item = TypeVar("Item")
Result = TypeVar("Result")

RETRY_AFTER_S = 1.0
"""What a refused caller is told to wait."""

MAX_PEERS = 8
"""Other requests of its batch that a trace links to."""


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    tokens: int
    deadline: float
    arrived: float
    trace: str
    answer: "asyncio.Future[tuple[Result, Timing]]"


class Batcher(Generic[Item, Result]):
    """Collects single requests into batches for one computation.

    Args:
        name: Of the stage, for error messages.
        compute: Runs a batch and returns one result per item, in order. Called in `executor`.
        executor: One thread that belongs to the replica.
        max_tokens: Budget of a batch; an item that exceeds it alone runs alone.
        max_waiting: Most items that may wait; more are refused.
        stop: Stops a batch that nobody waits for; None lets it run to its end.
        max_compute_s: A batch that takes longer hangs.
    """

    def __init__(
        self,
        name: str,
        compute: Callable[[list[Item]], Sequence[Result]],
        executor: Executor,
        *,
        max_tokens: int,
        max_waiting: int,
        stop: StopBetweenLayers | None = None,
        max_compute_s: float = math.inf,
    ) -> None:
        self._name = name
        self._compute = compute
        self._executor = executor
        self._max_tokens = max_tokens
        self._max_waiting = max_waiting
        self._stop = stop or StopBetweenLayers(None)
        self._watchdog = Watchdog(name, max_compute_s)
        self._urgent: deque[_Waiting[Item, Result]] = deque()
        self._patient: deque[_Waiting[Item, Result]] = deque()
        self._arrival = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    @property
    def num_waiting(self) -> int:
        """Items that wait for a batch."""
        return len(self._urgent) + len(self._patient)

    async def submit(
        self, item: Item, tokens: int, deadline: float, *, is_urgent: bool = True, trace: str = ""
    ) -> tuple[Result, Timing]:
        """Run one item in some batch. A cancelled caller's item is skipped if it still waits.

        Args:
            item: What to compute.
            tokens: Its share of the budget.
            deadline: Unix time in seconds after which nobody waits for the result.
            is_urgent: False lets all urgent items go first.
            trace: `traceparent` of the request, told to the others of its batch.

        Returns:
            The result, and where the time went.

        Raises:
            Overloaded: If too many items wait already.
            DeadlineExceeded: If the deadline passes before the item's batch ends.
            QZoomError: What the computation raised for this item.
        """
        if self.num_waiting >= self._max_waiting:
            raise Overloaded(
                f"{self._name}: {self.num_waiting} requests wait, limit {self._max_waiting}",
                retry_after_s=RETRY_AFTER_S,
            )
        loop = asyncio.get_running_loop()
        if self._worker is None:
            self._worker = loop.create_task(self._work(), name=f"{self._name}-batches")
        waiting = _Waiting[Item, Result](
            item, tokens, deadline, time.monotonic(), trace, loop.create_future()
        )
        (self._urgent if is_urgent else self._patient).append(waiting)
        self._arrival.set()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.time())):
                return await waiting.answer
        except TimeoutError:
            raise DeadlineExceeded(f"{self._name}: the deadline passed in the queue") from None
        finally:
            waiting.answer.cancel()

    def check_health(self) -> None:
        """Raise if the computation hangs.

        Raises:
            Unavailable: Saying for how long.
        """
        self._watchdog.check()

    def close(self) -> None:
        """Stop; items that still wait fail with `Unavailable`."""
        if self._worker is not None:
            self._worker.cancel()
        for queue in (self._urgent, self._patient):
            for waiting in queue:
                _fail(waiting, Unavailable(f"{self._name}: the service is stopping"))
            queue.clear()

    async def _work(self) -> None:
        while True:
            batch = self._take()
            if not batch:
                self._arrival.clear()
                await self._arrival.wait()
                continue
            await self._run(batch)

    def _take(self) -> list[_Waiting[Item, Result]]:
        """Take the next batch, leaving out what nobody waits for any more."""
        batch: list[_Waiting[Item, Result]] = []
        budget, now = self._max_tokens, time.time()
        for queue in (self._urgent, self._patient):
            while queue:
                waiting = queue[0]
                if not waiting.answer.done() and waiting.deadline > now:
                    if batch and waiting.tokens > budget:
                        return batch
                    budget -= waiting.tokens
                    batch.append(waiting)
                queue.popleft()
        return batch

    async def _run(self, batch: list[_Waiting[Item, Result]]) -> None:
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._executor, self._computed, batch)
            assert len(results) == len(batch), f"{self._name}: a result is missing"
        except Abandoned:
            return
        except Exception as error:
            if len(batch) == 1:
                _fail(batch[0], error)
                return
            # One item spoiled the batch: alone, each meets its own fate.
            for waiting in batch:
                if not waiting.answer.done():
                    await self._run([waiting])
            return
        compute_s = time.monotonic() - started
        traces = [waiting.trace for waiting in batch]
        for i, (waiting, result) in enumerate(zip(batch, results, strict=True)):
            if not waiting.answer.done():
                timing = Timing(
                    started - waiting.arrived, compute_s, len(batch), peers=peers_of(i, traces)
                )
                waiting.answer.set_result((result, timing))

    def _computed(self, batch: list[_Waiting[Item, Result]]) -> Sequence[Result]:
        """Run a batch as long as anybody waits for it; called in the executor."""

        def is_abandoned() -> bool:
            return all(waiting.answer.done() for waiting in batch)

        if is_abandoned():
            raise Abandoned
        with self._watchdog.busy(), self._stop.watching(is_abandoned):
            return self._compute([waiting.item for waiting in batch])


def peers_of(index: int, traces: Sequence[str]) -> tuple[str, ...]:
    """Choose which requests of a batch one of them is linked to: its neighbours."""
    others = [*traces[index + 1 :], *traces[:index]]
    return tuple(trace for trace in others if trace)[:MAX_PEERS]


def _fail(waiting: _Waiting[Item, Result], error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)
        # Mark it as seen: its caller may go away before it looks.
        waiting.answer.exception()
