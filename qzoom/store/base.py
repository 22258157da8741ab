"""What can every store do? The interface of the embedded one and of Redis."""

from collections.abc import Callable, Sequence
from typing import Protocol

from qzoom.store.messages import (
    Charge,
    Claim,
    Claimed,
    Configuration,
    Keep,
    KeyRecord,
    Renewal,
    Settlement,
    Verdict,
)

MAX_KEYS = 10_000
"""API keys, revoked ones included. Every gateway holds them all."""

MAX_SETTINGS = 10_000
"""Runtime settings."""

Clock = Callable[[], float]
"""Unix time in seconds. Stores take their own machine's time unless they are given a clock."""


class StoreUnavailable(Exception):
    """The store did not answer as it should; whoever asked goes on without it.

    Args:
        reason: Why, without addresses or secrets.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Store(Protocol):
    """State that all gateways share. Every method is atomic, and raises `StoreUnavailable`."""

    kind: str
    """Which one it is: `embedded` or `redis`."""

    async def prepare(self) -> None:
        """Do once what would make the first question slow; also after the store was away."""
        ...

    async def configuration(self, known_version: str) -> Configuration | None:
        """Return keys and settings; None if they are as in the version that is known."""
        ...

    async def restore(self, known: Configuration) -> None:
        """Write keys and settings back where everything was lost; else change nothing."""
        ...

    async def add_key(self, record: KeyRecord) -> None:
        """Keep a new key.

        Raises:
            TooLarge: If there are `MAX_KEYS`.
        """
        ...

    async def revoke_key(self, key_id: str, now: float) -> KeyRecord:
        """Let nobody in with a key from now on; the record stays.

        Raises:
            NotFound: If there is none with this id.
        """
        ...

    async def put_setting(self, name: str, value: str | None) -> None:
        """Write a runtime setting that has been checked; None removes it.

        Raises:
            TooLarge: If there are `MAX_SETTINGS`.
        """
        ...

    async def admit(self, charge: Charge) -> Verdict:
        """Let a request begin and count it, or refuse it and count nothing."""
        ...

    async def settle(self, settlement: Settlement) -> None:
        """Correct what was counted for a request, and give its place to another."""
        ...

    async def renew(self, renewals: Sequence[Renewal]) -> None:
        """Hold the places and claims of requests that are still worked on."""
        ...

    async def claim(self, claim: Claim) -> Claimed:
        """Ask whether a request with an Idempotency-Key is new; if so, it belongs to its owner."""
        ...

    async def keep(self, keep: Keep) -> None:
        """Keep an answer, unless its claim belongs to another attempt by now."""
        ...

    async def release(self, claim: Claim) -> None:
        """Forget a claim without an answer, so that the client may try again."""
        ...

    async def close(self) -> None:
        """Let go of connections and files."""
        ...
