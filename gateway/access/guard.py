"""What if the store does not answer? Then local state does, at once, until the store is back.

Nothing that a client waits for waits for the store longer than `limit_s`. The first failure opens
the circuit: from then on the local store answers alone, and only the background task that reads the
configuration asks the real one, until it answers again.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from qzoom.store.base import Store, StoreUnavailable
from qzoom.store.messages import Renewal
from qzoom.store.sqlite import SqliteStore

PROBE_LIMIT_S = 1.0
"""For questions that nobody waits for: reaching a server may take several round trips."""

MAX_QUESTIONS = 4
"""On their way at once. More would wait for each other in this process, which is no fault of the
store: the time of a question begins when it is sent. When the store hangs, all are given up."""

MAX_TURNS = 8
"""Turns of the event loop in which an answer that has arrived gets through to who waits for it."""

_PROBE = Renewal(":probe", "probe", None, 1.0)
"""A write that counts for nobody: a store that can only be read is of no use."""

Result = TypeVar("Result")


class GuardWatcher(Protocol):
    """Is told when the store is lost and when it is back."""

    def store_lost(self, reason: str) -> None:
        """Local state answers from now on."""
        ...

    def store_back(self) -> None:
        """The store answers again."""
        ...

    def store_asked(self, operation: str, seconds: float) -> None:
        """A request has waited for the store, whether it answered or not."""
        ...


@dataclass(frozen=True, slots=True)
class StoreState:
    """What /readyz says about the store.

    Attributes:
        kind: `embedded` or `redis`.
        state: `ok`, or `degraded` while local state answers.
        reason: Why it is degraded; None otherwise.
        since: Unix time in seconds since when; None otherwise.
    """

    kind: str
    state: str
    reason: str | None = None
    since: float | None = None


class GuardedStore:
    """A store with something to fall back to.

    Args:
        store: What all gateways share.
        local: Of this gateway alone, an attribute too.
        limit_s: Longest wait for the store.
        watcher: Is told of changes.
    """

    def __init__(
        self, store: Store, local: SqliteStore, limit_s: float, watcher: GuardWatcher
    ) -> None:
        self._store = store
        self.local = local
        self._limit_s = limit_s
        self._probe_limit_s = max(limit_s, PROBE_LIMIT_S)
        self._watcher = watcher
        self.state = StoreState(store.kind, "ok")
        self._is_prepared = False
        self._first_probe = asyncio.Event()
        self.lost = asyncio.Event()
        self._slots = asyncio.Semaphore(MAX_QUESTIONS)

    @property
    def is_degraded(self) -> bool:
        """Whether local state answers."""
        return self.state.reason is not None

    def is_shared(self, store: Store) -> bool:
        """Whether this is the store that all gateways share."""
        return store is self._store

    async def call(
        self, operation: str, ask: Callable[[Store], Awaitable[Result]]
    ) -> tuple[Result, Store]:
        """Ask the store, or the local one while the store does not answer.

        Args:
            operation: What is asked, as metrics name it.
            ask: Calls one method.

        Returns:
            result: What the method returned.
            store: Which store answered.

        Raises:
            QZoomError: What the method raises.
        """
        if not self._first_probe.is_set():
            # Connecting takes longer than a question may; it has begun with this gateway.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._first_probe.wait(), self._limit_s)
        if self._first_probe.is_set() and not self.is_degraded:
            try:
                return await self._timed(operation, ask), self._store
            except StoreUnavailable as error:
                self._lose(error.reason)
        return await ask(self.local), self.local

    async def on(
        self, store: Store, operation: str, tell: Callable[[Store], Awaitable[None]]
    ) -> bool:
        """Tell the store that answered before; what is lost with it is lost.

        Args:
            store: Which one.
            operation: What it is told, as metrics name it.
            tell: Calls one method.

        Returns:
            done: Whether it was told.
        """
        if not self.is_shared(store):
            await tell(store)
            return True
        if self.is_degraded:
            return False
        try:
            await self._timed(operation, tell)
        except StoreUnavailable as error:
            self._lose(error.reason)
            return False
        return True

    async def probe(self, ask: Callable[[Store], Awaitable[Result]]) -> Result:
        """Ask the store alone, whether it is lost or not; an answer brings it back.

        `lost` is set whenever the store is lost, for whoever probes to do so at once.

        Raises:
            StoreUnavailable: If it does not answer.
        """
        try:
            if not self._is_prepared:
                await _within(self._store.prepare(), self._probe_limit_s)
                # What answers later than a request may wait is not back.
                await _within(self._store.renew([_PROBE]), self._limit_s)
                self._is_prepared = True
            result = await _within(ask(self._store), self._probe_limit_s)
        except StoreUnavailable as error:
            self._lose(error.reason)
            raise
        finally:
            self._first_probe.set()
        if self.is_degraded:
            self.state = StoreState(self._store.kind, "ok")
            self._watcher.store_back()
        return result

    async def close(self) -> None:
        """Let go of both."""
        await self._store.close()
        await self.local.close()

    async def _timed(self, operation: str, ask: Callable[[Store], Awaitable[Result]]) -> Result:
        began = time.perf_counter()
        try:
            async with self._slots:
                if self.is_degraded:
                    raise StoreUnavailable("lost meanwhile")
                return await _within(ask(self._store), self._limit_s)
        finally:
            self._watcher.store_asked(operation, time.perf_counter() - began)

    def _lose(self, reason: str) -> None:
        self._is_prepared = False
        if not self.is_degraded:
            self.state = StoreState(self._store.kind, "degraded", reason, time.time())
            self._watcher.store_lost(reason)
            self.lost.set()


async def _within(question: Awaitable[Result], limit_s: float) -> Result:
    """Wait for an answer of the store, not longer than that.

    A gateway that was busy itself for so long finds the timer due and the answer arrived in the
    same turn of its event loop; that is no failure of the store.

    Raises:
        StoreUnavailable: If there is none.
    """
    asking = asyncio.ensure_future(question)
    try:
        await asyncio.wait({asking}, timeout=limit_s)
        turns = 0
        while not asking.done() and turns < MAX_TURNS:
            await asyncio.sleep(0)
            turns += 1
        if asking.done():
            return asking.result()
    finally:
        if not asking.done():
            asking.cancel()
            asking.add_done_callback(_forget)
    raise StoreUnavailable(f"no answer within {limit_s * 1e3:g} ms")


def _forget(asking: "asyncio.Future[Result]") -> None:
    if not asking.cancelled():
        asking.exception()  # Seen, so that asyncio does not report it as forgotten.
