"""Whose turn is it? Deficit round robin between tenants, first come first served within one.

Each tenant that waits gets, in turn, credit for `quantum` units of work and may enter as long as
its credit pays for its next item (Shreedhar and Varghese, "Efficient Fair Queuing using Deficit
Round Robin", 1995). So a tenant with a thousand waiting items delays one that has a single item by
one item, and tenants with dear items do not get more than those with cheap ones.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Fit(Enum):
    """Whether an item may enter now."""

    YES = "yes"
    TENANT_FULL = "tenant full"
    """Not while its tenant has so much in work; other tenants may pass it."""
    FULL = "full"
    """Not while there is so much in work; nobody may pass it, or dear items would starve."""


@dataclass(eq=False, slots=True)
class _Lane(Generic[Item]):
    tenant: str
    items: deque[tuple[Item, int]] = field(default_factory=deque)
    credit: float = 0.0
    has_turn: bool = False


class FairQueue(Generic[Item]):
    """Items of many tenants. Not bounded by itself.

    Args:
        quantum: Credit that a tenant gets in each round, in units of cost.
    """

    def __init__(self, quantum: int) -> None:
        self._quantum = quantum
        self._lanes: dict[str, _Lane[Item]] = {}
        self._round: deque[_Lane[Item]] = deque()
        self._num_items = 0

    def __len__(self) -> int:
        return self._num_items

    def waiting(self, tenant: str) -> int:
        """Items of one tenant."""
        lane = self._lanes.get(tenant)
        return len(lane.items) if lane else 0

    def ahead_of(self, tenant: str) -> int:
        """Items that will enter before the next one of this tenant, if all items cost the same."""
        place = self.waiting(tenant) + 1
        return sum(min(len(lane.items), place) for lane in self._round)

    def push(self, tenant: str, item: Item, cost: int) -> None:
        """Add an item at the end of its tenant's lane.

        Args:
            tenant: Whose it is.
            item: What waits.
            cost: Units of work, at least 1.
        """
        lane = self._lanes.get(tenant)
        if lane is None:
            lane = self._lanes[tenant] = _Lane(tenant)
            self._round.append(lane)
        lane.items.append((item, max(1, cost)))
        self._num_items += 1

    def pop(self, fits: Callable[[Item], Fit]) -> Item | None:
        """Take the next item that may enter.

        Args:
            fits: Whether an item may enter now.

        Returns:
            The item; None if none may.
        """
        num_passed = 0
        while num_passed < len(self._round):
            lane = self._round[0]
            item, cost = lane.items[0]
            fit = fits(item)
            if fit is Fit.FULL:
                return None
            if fit is Fit.TENANT_FULL:
                num_passed += 1
                self._end_turn(lane)
                continue
            num_passed = 0
            if not lane.has_turn:
                lane.has_turn = True
                lane.credit += self._quantum
            if cost <= lane.credit:
                lane.credit -= cost
                lane.items.popleft()
                self._taken(lane)
                return item
            self._end_turn(lane)
        return None

    def remove(self, tenant: str, item: Item) -> bool:
        """Take an item out, wherever it waits; tells whether it was there."""
        lane = self._lanes.get(tenant)
        if lane is None:
            return False
        place = next((i for i, (one, _) in enumerate(lane.items) if one is item), None)
        if place is None:
            return False
        del lane.items[place]
        self._taken(lane)
        return True

    def pop_last_of_longest(self) -> tuple[str, Item] | None:
        """Take the newest item of the tenant that has most of them waiting."""
        if not self._round:
            return None
        lane = max(self._round, key=lambda one: len(one.items))
        item, _ = lane.items.pop()
        self._taken(lane)
        return lane.tenant, item

    def _end_turn(self, lane: _Lane[Item]) -> None:
        lane.has_turn = False
        self._round.rotate(-1)

    def _taken(self, lane: _Lane[Item]) -> None:
        self._num_items -= 1
        if not lane.items:
            # A tenant that is gone keeps no credit, or it could save up for a burst.
            del self._lanes[lane.tenant]
            self._round.remove(lane)
