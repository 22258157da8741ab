"""What does this gateway know of the store? Keys and runtime settings, half a second old at most.

Every gateway keeps them all and looks for a new version twice a second, so a request waits for
nothing to be let in, and goes on being let in while the store is away.
"""

import asyncio
import contextlib
import time

from gateway.access.guard import GuardedStore
from qzoom.store.base import StoreUnavailable
from qzoom.store.messages import Configuration, KeyRecord
from qzoom.store.runtime import RuntimeSettings, obey

POLL_S = 0.5
"""Between two looks for a new version."""

REFRESH_S = 0.1
"""Fewest seconds between two looks because of a key that nobody knows: strangers cause them."""


class SharedState:
    """Keys and settings as this gateway knows them. Owns the task that keeps them new.

    Args:
        guard: The store.
        initial: What the gateway was started with.
    """

    def __init__(self, guard: GuardedStore, initial: RuntimeSettings) -> None:
        self._guard = guard
        self._initial = initial
        self._configuration = Configuration()
        self._looked = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self.settings = initial
        self.was_read = False
        self._polling = asyncio.get_running_loop().create_task(self._poll(), name="store-poll")

    def key(self, key_id: str) -> KeyRecord | None:
        """Find a key by its id; None if none is known."""
        return self._configuration.keys.get(key_id)

    @property
    def tenants(self) -> frozenset[str]:
        """Tenants that an operator has named: in a key or in a setting."""
        of_keys = {record.tenant for record in self._configuration.keys.values()}
        return frozenset(of_keys | self.settings.tenant_limits.keys())

    async def refresh(self) -> None:
        """Look now, because something is unknown that may just have been written.

        Many who ask at once share one look; it waits no longer than the store may take.
        """
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look_quickly())
            self._looking.add_done_callback(self._looked_once)
        await asyncio.shield(self._looking)

    def reconfigure(self, initial: RuntimeSettings) -> None:
        """Take other settings of the start; what was written goes over them as before."""
        self._initial = initial
        self.settings = obey(self._configuration.settings, initial)

    def close(self) -> None:
        """Stop looking."""
        self._polling.cancel()
        if self._looking is not None:
            self._looking.cancel()

    def _looked_once(self, _task: "asyncio.Task[None]") -> None:
        self._looking = None

    async def _look_quickly(self) -> None:
        await asyncio.sleep(max(0.0, self._looked + REFRESH_S - time.monotonic()))
        self._looked = time.monotonic()
        known = self._configuration.version
        if self._guard.is_degraded:
            return
        found, store = await self._guard.call(
            "configuration", lambda store: store.configuration(known)
        )
        if self._guard.is_shared(store):
            self._take(found)

    async def _poll(self) -> None:
        while True:
            self._guard.lost.clear()
            with contextlib.suppress(StoreUnavailable):
                await self._look()
            # A store that was lost may be back at once: a busy machine is late, too.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._guard.lost.wait(), POLL_S)

    async def _look(self) -> None:
        known = self._configuration
        found = await self._guard.probe(lambda store: store.configuration(known.version))
        if found is not None and not found.version and known.version:
            # It has lost everything, as a Redis does that starts without its log.
            await self._guard.probe(lambda store: store.restore(known))
        self._take(found)

    def _take(self, found: Configuration | None) -> None:
        self.was_read = True
        # A store without a version knows nothing, or has lost it.
        if found is None or not found.version:
            return
        self._configuration = found
        self.settings = obey(found.settings, self._initial)
