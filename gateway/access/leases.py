"""How do places and claims of a dead gateway become free? They expire, unless they are renewed."""

import asyncio
from typing import Final

from gateway.access.guard import GuardedStore
from qzoom.store.messages import Renewal

LEASE_S: Final = 15.0
"""After which the place of a request of a dead gateway is free."""

RENEW_S: Final = 5.0
"""Between two renewals: two may be lost."""


class Leases:
    """What the requests of this gateway hold. Owns the task that renews it.

    Args:
        guard: The store.
    """

    def __init__(self, guard: GuardedStore) -> None:
        self._guard = guard
        self._held: dict[str, Renewal] = {}
        self._renewing = asyncio.get_running_loop().create_task(self._renew(), name="store-renew")

    def hold(self, name: str, renewal: Renewal) -> None:
        """Renew this until it is dropped."""
        self._held[name] = renewal

    def drop(self, name: str) -> None:
        """Renew it no longer."""
        self._held.pop(name, None)

    def close(self) -> None:
        """Stop renewing."""
        self._renewing.cancel()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            held = list(self._held.values())
            if held:
                await self._renew_all(held)

    async def _renew_all(self, held: list[Renewal]) -> None:
        await self._guard.call("renew", lambda store: store.renew(held))
