"""What may a tenant use? Requests and tokens per minute, and requests at the same time."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum

WINDOW_S = 60
"""Length of the sliding window of a quota, in seconds."""


class Resource(StrEnum):
    """What is counted per minute, as it is called in headers and settings."""

    REQUESTS = "requests"
    VISUAL_TOKENS = "visual_tokens"
    GENERATED_TOKENS = "generated_tokens"

    @property
    def words(self) -> str:
        """Its name in a sentence."""
        return self.value.replace("_", " ")

    @property
    def header(self) -> str:
        """Its name in a header."""
        return self.value.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of each resource: used, charged, or settled; the latter may be negative."""

    requests: int = 0
    visual_tokens: int = 0
    generated_tokens: int = 0

    def __iter__(self) -> Iterator[int]:
        """In the order of `Resource`."""
        return iter((self.requests, self.visual_tokens, self.generated_tokens))

    def __sub__(self, other: "Amounts") -> "Amounts":
        """Subtract each."""
        return Amounts(*(one - two for one, two in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """Limits of one tenant; None is unlimited.

    Attributes:
        requests_per_minute: Requests that begin within any 60 s.
        visual_tokens_per_minute: Visual tokens computed for requests of any 60 s.
        generated_tokens_per_minute: Tokens drawn for requests of any 60 s.
        concurrency: Requests that are worked on at the same time, over all gateways.
    """

    requests_per_minute: int | None = None
    visual_tokens_per_minute: int | None = None
    generated_tokens_per_minute: int | None = None
    concurrency: int | None = None

    @property
    def per_minute(self) -> tuple[int | None, int | None, int | None]:
        """In the order of `Resource`."""
        return (
            self.requests_per_minute,
            self.visual_tokens_per_minute,
            self.generated_tokens_per_minute,
        )

    @property
    def are_none(self) -> bool:
        """Whether nothing is limited."""
        return self == TenantLimits()


LIMIT_NAMES: tuple[str, ...] = tuple(field.name for field in fields(TenantLimits))
