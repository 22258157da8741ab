"""Which replica holds what was computed about a picture? Consistent hashing with a load bound.

Pure functions of names, keys and loads; `gateway.routing` puts them into Serve.
"""

import math
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Generic, TypeVar

from qzoom.contracts.keys import picture_key

Member = TypeVar("Member")

POINTS = 64
"""Places of one member on the ring: shares of the keys differ by about an eighth."""


def affinity_of(tenant: str, digests: Iterable[str]) -> str:
    """Name what decides which replicas hold the state of a request: its first picture."""
    first = next(iter(digests), None)
    return "" if first is None else picture_key(b"", tenant, first, None).hex()


class Ring(Generic[Member]):
    """Members on a circle of hashes. A key belongs to the first one behind its own hash.

    All who know the same names agree without a word. When a member comes or goes, only its own
    share of the keys moves.

    Args:
        members: By the names that place them.
    """

    def __init__(self, members: Mapping[str, Member]) -> None:
        self._members = tuple(members.values())
        places = sorted(
            (_hash(f"{name}/{point}"), index)
            for index, name in enumerate(members)
            for point in range(POINTS)
        )
        self._places = [place for place, _ in places]
        self._owners = [index for _, index in places]

    def walk(self, key: str) -> Iterator[Member]:
        """Yield every member once: the key's owner, then who would own it without those before."""
        start, count, seen = bisect(self._places, _hash(key)), len(self._owners), set[int]()
        for step in range(count):
            owner = self._owners[(start + step) % count]
            if owner in seen:
                continue
            seen.add(owner)
            yield self._members[owner]
            if len(seen) == len(self._members):
                return

    def choose(
        self, key: str, load_of: Callable[[Member], int], *, free: int, factor: float
    ) -> Member | None:
        """Return the first member on the key's walk that is not overloaded.

        Args:
            key: Requests of one key prefer one member.
            load_of: Requests that a member works on, and those that wait there.
            free: A member with fewer is never overloaded.
            factor: Nor is one with fewer than so many times the mean, the new request counted in;
                at least 1, so that there always is one.

        Returns:
            The member; None where there is none.
        """
        owner = next(self.walk(key), None)
        # The usual case looks at one load only.
        if owner is None or load_of(owner) < free:
            return owner
        total = 1 + sum(load_of(member) for member in self._members)
        limit = max(free, math.ceil(factor * total / len(self._members)))
        return next(member for member in self.walk(key) if load_of(member) < limit)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
