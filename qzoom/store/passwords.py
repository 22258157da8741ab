"""Which passwords do stores ask for? They stand in the environment, never in an address."""

import os
from dataclasses import dataclass, field
from typing import Self

REDIS_VARIABLE = "QZOOM_STORE_PASSWORD"
SENTINEL_VARIABLE = "QZOOM_STORE_SENTINEL_PASSWORD"


@dataclass(frozen=True, slots=True)
class Passwords:
    """What servers ask for.

    Attributes:
        redis: Of Redis itself; None where it asks for none.
        sentinel: Of the Sentinels; None where they ask for none.
    """

    redis: str | None = field(default=None, repr=False)
    sentinel: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls) -> Self:
        """Read them from the variables of this process."""
        return cls(
            os.environ.get(REDIS_VARIABLE) or None, os.environ.get(SENTINEL_VARIABLE) or None
        )
