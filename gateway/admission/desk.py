"""Who works, who waits, who is turned away? The decisions, for all gateways, in one place.

Runs on one event loop. What asks, holds or waits is named by a ticket; a ticket is given up by
`release`, wherever it is, and more than once without harm.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from gateway.admission.bounds import AdmissionBounds
from gateway.admission.brownout import BrownoutState, controlled
from gateway.admission.fair import FairQueue, Fit
from gateway.admission.tickets import Ask, DeskState, Grant, Reason, Refusal
from gateway.admission.usage import Usage

QUANTUM = 64
"""Positions that a waiting tenant may take in each round: fewer than any request has,
so that tenants take turns request by request."""

STALE_S = 10.0
"""A gateway that was silent for so long is gone, and all that it held is free again."""

UNCLAIMED_S = 5.0
"""A gateway's report may miss a ticket for so long: the reply that gave it may be on its way."""

SERVICE_WEIGHT = 0.1
"""How much the newest request counts in the average of the time that one is worked on."""


@dataclass(eq=False, slots=True)
class _Waiting:
    ask: Ask
    answer: "asyncio.Future[Grant | Refusal]"


@dataclass(frozen=True, slots=True)
class _Held:
    ask: Ask
    since: float


class Desk:
    """Admits requests.

    Args:
        bounds: What the operator allows.
        clock: Gives monotonic seconds.
    """

    def __init__(
        self, bounds: AdmissionBounds, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bounds = bounds
        self._clock = clock
        self._usage = Usage()
        self._held: dict[str, _Held] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._queue: FairQueue[_Waiting] = FairQueue(QUANTUM)
        self._brownout = BrownoutState()
        self._service_s = 0.0
        self._seen: dict[str, float] = {}
        self._is_draining = False

    @property
    def state(self) -> DeskState:
        """What the desk sees now."""
        return DeskState(
            in_work=len(self._held),
            waiting=len(self._queue),
            level=self._brownout.level,
            is_draining=self._is_draining,
            num_gateways=max(1, len(self._seen)),
        )

    def configure(self, bounds: AdmissionBounds) -> None:
        """Take other bounds, at once; who works goes on."""
        self._bounds = bounds
        self._admit_waiting()

    def drain(self) -> None:
        """Refuse new work from now on; who works or waits goes on."""
        self._is_draining = True

    async def admit(self, ask: Ask) -> Grant | Refusal:
        """Let a request in, now or in its turn, or turn it away.

        Cancelling the call leaves the ticket where it is: `release` it.
        """
        refusal = self._refusal(ask)
        if refusal is not None:
            return refusal
        waiting = _Waiting(ask, asyncio.get_running_loop().create_future())
        self._waiting[ask.ticket] = waiting
        self._queue.push(ask.tenant, waiting, ask.cost.positions)
        self._admit_waiting()
        self._make_room(ask)
        self._control()
        try:
            async with asyncio.timeout(max(0.0, ask.deadline - ask.needs_s - time.time())):
                return await waiting.answer
        except TimeoutError:
            self.release(ask.ticket)
            return Refusal("expired", "the deadline cannot be met any more", self._wait_s(ask))

    def release(self, ticket: str) -> None:
        """Give up a ticket: a request has ended, or nobody waits for it any more."""
        held = self._held.pop(ticket, None)
        if held is not None:
            self._usage.remove(held.ask.tenant, held.ask.cost)
            self._learn(self._clock() - held.since)
        waiting = self._waiting.pop(ticket, None)
        if waiting is not None:
            self._queue.remove(waiting.ask.tenant, waiting)
            if not waiting.answer.done():
                waiting.answer.set_result(Refusal("gone", "nobody waits any more", 0.0))
        self._admit_waiting()
        self._control()

    def report(self, gateway: str, held: Mapping[str, Ask]) -> DeskState:
        """Hear from a gateway what it holds, so that nothing is forgotten or held for ever.

        Args:
            gateway: Its name.
            held: Its tickets that were granted, also by a desk that was here before.
        """
        now = self._clock()
        self._seen[gateway] = now
        for ticket, ask in held.items():
            if ticket not in self._held:
                self._hold(ask)
        mine = [t for t, one in self._held.items() if one.ask.gateway == gateway]
        lost = [t for t in mine if t not in held and now - self._held[t].since > UNCLAIMED_S]
        silent = {name for name, seen in self._seen.items() if now - seen > STALE_S}
        lost += [t for t, one in self._held.items() if one.ask.gateway in silent]
        lost += [t for t, one in self._waiting.items() if one.ask.gateway in silent]
        for name in silent:
            del self._seen[name]
        for ticket in lost:
            self.release(ticket)
        self._control()
        return self.state

    def _refusal(self, ask: Ask) -> Refusal | None:
        """Why a request cannot even wait; None if it can."""
        if self._is_draining:
            return Refusal("draining", "the system is stopping", self._service_s)
        wait_s, left_s = self._wait_s(ask), ask.deadline - time.time()
        if ask.needs_s + wait_s > left_s:
            return Refusal(
                "deadline",
                f"the deadline is in {max(0.0, left_s):.2f} s, waiting and working take at least "
                f"{ask.needs_s + wait_s:.2f} s",
                wait_s,
            )
        return None

    def _make_room(self, newest: Ask) -> None:
        """Keep the queue within its bound: the tenant that has most of it loses its newest."""
        while len(self._queue) > self._bounds.max_waiting:
            found = self._queue.pop_last_of_longest()
            assert found is not None, "a queue above its bound is not empty"
            _, turned_away = found
            ask = turned_away.ask
            self._waiting.pop(ask.ticket, None)
            reason: Reason = "queue_full" if ask is newest else "displaced"
            refusal = Refusal(
                reason,
                f"{len(self._queue)} requests wait, at most {self._bounds.max_waiting}",
                self._wait_s(ask),
                closed_s=self._service_s / max(1, len(self._held)),
            )
            if not turned_away.answer.done():
                turned_away.answer.set_result(refusal)

    def _admit_waiting(self) -> None:
        while (waiting := self._queue.pop(self._fit)) is not None:
            self._waiting.pop(waiting.ask.ticket, None)
            if waiting.answer.done():
                continue
            self._hold(waiting.ask)
            waiting.answer.set_result(Grant(self._brownout.level, self._bounds.brownout))

    def _fit(self, waiting: _Waiting) -> Fit:
        ask = waiting.ask
        if not self._usage.fits(ask.cost, self._bounds):
            return Fit.FULL
        if not self._usage.fits_tenant(ask.tenant, ask.cost, self._bounds):
            return Fit.TENANT_FULL
        return Fit.YES

    def _hold(self, ask: Ask) -> None:
        self._held[ask.ticket] = _Held(ask, self._clock())
        self._usage.add(ask.tenant, ask.cost)
        self._seen.setdefault(ask.gateway, self._clock())

    def _learn(self, service_s: float) -> None:
        weight = SERVICE_WEIGHT if self._service_s else 1.0
        self._service_s += weight * (service_s - self._service_s)

    def _wait_s(self, ask: Ask) -> float:
        """Predict the wait: by Little's law, requests leave as fast as they are in work."""
        if self._usage.fits(ask.cost, self._bounds) and not len(self._queue):
            return 0.0
        ahead = self._queue.ahead_of(ask.tenant) + 1
        return ahead * self._service_s / max(1, len(self._held))

    def _control(self) -> None:
        """Move the level of brown-out, by at most one step."""
        self._brownout = controlled(
            self._brownout, self.pressure, self._clock(), self._bounds.brownout
        )

    @property
    def pressure(self) -> float:
        """Work in hand over what may be in hand, plus the share of the queue that is taken."""
        in_queue = len(self._queue) / max(1, self._bounds.max_waiting)
        return 1.0 + in_queue if in_queue else min(1.0, self._usage.share(self._bounds))


def share_of(bounds: AdmissionBounds, num_gateways: int) -> AdmissionBounds:
    """Bounds of one gateway that must decide alone: its part of what all may have in work."""
    return replace(
        bounds,
        **{
            name: max(1, getattr(bounds, name) // num_gateways)
            for name in ("requests", "visual_tokens", "kv_bytes", "store_bytes", "max_waiting")
        },
    )
