"""May a tenant use more? What a request may cost is reserved before the work and settled after it.

Requests, visual tokens and generated tokens of any 60 s, and requests at the same time, are counted
in the store, so that all gateways together are exact. Reserved are the visual tokens that the
pictures' headers predict, a region at its budget included, and the longest answer that was asked
for; so the limits hold whatever comes. What was not used is given back when the request ends.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.access.guard import GuardedStore
from gateway.access.headers import limit_headers
from gateway.access.leases import LEASE_S, Leases
from gateway.access.report import AccessReport
from gateway.access.shared import SharedState
from gateway.events import Delta, Event, Finished, Started
from qzoom.contracts.request import AnswerRequest
from qzoom.errors import Cancelled, DeadlineExceeded, QuotaExceeded, TooLarge
from qzoom.store.base import Store
from qzoom.store.limits import Amounts, Resource, TenantLimits
from qzoom.store.messages import Charge, Renewal, Settlement, Verdict

VisualCost = Callable[[AnswerRequest], Awaitable[int]]
"""Predicts from the pictures' headers how many visual tokens a request costs at most."""

MAX_KNOWN = 10_000
"""Tenants whose last verdict is remembered."""

_PARAMS = {
    Resource.VISUAL_TOKENS: "qzoom.max_visual_tokens",
    Resource.GENERATED_TOKENS: "max_tokens",
}

Result = TypeVar("Result")


@dataclass(slots=True)
class Place:
    """A request that has begun, and what it has used so far.

    Attributes:
        headers: What its client is told about the limits.
    """

    charge: Charge | None = None
    verdict: Verdict | None = None
    store: Store | None = None
    headers: dict[str, str] = field(default_factory=dict)
    visual_tokens: int | None = None
    generated_tokens: int = 0

    def saw(self, event: Event) -> None:
        """Count what an event says was used."""
        match event:
            case Started():
                self.visual_tokens = event.visual_tokens.coarse + event.visual_tokens.roi
            case Delta():
                self.generated_tokens += event.num_tokens
            case Finished():
                self.generated_tokens = event.completion_tokens

    def used(self, error: BaseException | None) -> Amounts:
        """Tell what counts for a request that has ended.

        A client that gives up before the first token pays for the pictures that it asked about;
        one that was refused, or whose request broke, pays for the request alone.
        """
        visual = self.visual_tokens
        if visual is None:
            gave_up = not isinstance(error, Exception) or isinstance(
                error, (Cancelled, DeadlineExceeded)
            )
            visual = self.charge.amounts.visual_tokens if self.charge and error and gave_up else 0
        return Amounts(1, visual, self.generated_tokens)


class Quotas:
    """Lets requests begin. Owns the settlements that are under way.

    Args:
        guard: The store.
        shared: Knows the limits.
        leases: Renews places.
        visual_cost: Predicts visual tokens.
        report: Counts refusals.
    """

    def __init__(
        self,
        guard: GuardedStore,
        shared: SharedState,
        leases: Leases,
        visual_cost: VisualCost,
        report: AccessReport,
    ) -> None:
        self._guard = guard
        self._shared = shared
        self._leases = leases
        self._visual_cost = visual_cost
        self._report = report
        self._known: dict[str, Verdict] = {}
        self._ending: set[asyncio.Future[None]] = set()

    async def enter(self, request: AnswerRequest, lease: str) -> Place:
        """Let a request begin.

        Args:
            request: Which one.
            lease: Names this attempt to answer it, uniquely.

        Raises:
            QuotaExceeded: If a limit is reached, with the seconds after which it may fit.
            TooLarge: If it never fits.
            QZoomError: If a picture's header cannot be read.
        """
        limits = self._shared.settings.limits(request.tenant)
        if limits.are_none:
            return Place()
        visual = 0
        if limits.visual_tokens_per_minute is not None:
            visual = await self._visual_cost(request)
        amounts = Amounts(1, visual, request.sampling.max_tokens)
        _check_fits(amounts, limits)
        charge = Charge(request.tenant, lease, amounts, limits, LEASE_S)
        charging = asyncio.ensure_future(
            self._guard.call("admit", lambda store: self._admit(store, charge))
        )
        try:
            verdict, store = await asyncio.shield(charging)
        except asyncio.CancelledError:
            # Who has left must not leave a place behind that was taken a moment later.
            charging.add_done_callback(lambda done: self._undo(charge, done))
            raise
        request.envelope.headers |= limit_headers(limits, verdict)
        if verdict.refused_by is not None:
            self._report.limited(request.tenant, verdict.refused_by)
            raise _refusal(verdict, charge)
        self._leases.hold(lease, Renewal(charge.tenant, lease, None, LEASE_S))
        return Place(charge, verdict, store)

    async def leave(self, place: Place, error: BaseException | None) -> None:
        """Settle a request that has ended, and give its place to another.

        Args:
            place: What `enter` gave.
            error: What ended it; None where it was answered.
        """
        if place.charge is None or place.verdict is None or place.store is None:
            return
        self._leases.drop(place.charge.lease)
        correction = place.used(error) - place.charge.amounts
        await asyncio.shield(self._settle(place.charge, place.verdict, place.store, correction))

    async def close(self) -> None:
        """Wait for settlements, each of which is bounded."""
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _admit(self, store: Store, charge: Charge) -> Verdict:
        """Ask a store; the local one goes on from what the shared one has counted last."""
        tenant = charge.tenant
        if self._guard.is_shared(store):
            verdict = await store.admit(charge)
            self._known.pop(tenant, None)
            self._known[tenant] = verdict
            while len(self._known) > MAX_KNOWN:
                del self._known[next(iter(self._known))]
            return verdict
        known = self._known.pop(tenant, None)
        if known is not None:
            await self._guard.local.adopt(tenant, known.second, known.used)
        return await store.admit(charge)

    def _settle(
        self, charge: Charge, verdict: Verdict, store: Store, correction: Amounts
    ) -> "asyncio.Future[None]":
        settlement = Settlement(charge.tenant, charge.lease, verdict.second, correction)

        async def settle() -> None:
            await self._guard.on(store, "settle", lambda store: store.settle(settlement))

        ending = asyncio.ensure_future(settle())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return ending

    def _undo(self, charge: Charge, done: "asyncio.Future[tuple[Verdict, Store]]") -> None:
        if done.cancelled() or done.exception() is not None:
            return
        verdict, store = done.result()
        if verdict.refused_by is None:
            self._settle(charge, verdict, store, Amounts() - charge.amounts)


def _check_fits(amounts: Amounts, limits: TenantLimits) -> None:
    for resource, amount, limit in zip(Resource, amounts, limits.per_minute, strict=True):
        if limit is not None and amount > limit and resource in _PARAMS:
            raise TooLarge(
                f"the request may use {amount} {resource.words}, "
                f"its tenant has {limit} in a minute",
                param=_PARAMS[resource],
            )


def _refusal(verdict: Verdict, charge: Charge) -> QuotaExceeded:
    retry_after_s = verdict.retry_after_s
    if verdict.refused_by == "concurrency":
        return QuotaExceeded(
            f"{verdict.running} requests of the tenant are worked on, "
            f"at most {charge.limits.concurrency}",
            retry_after_s=retry_after_s,
        )
    resource = Resource(verdict.refused_by or "")
    place = list(Resource).index(resource)
    limit, used = charge.limits.per_minute[place], tuple(verdict.used)[place]
    asked = tuple(charge.amounts)[place]
    return QuotaExceeded(
        f"the tenant has used {used} of {limit} {resource.words} in the last minute, "
        f"the request may use {asked}",
        retry_after_s=retry_after_s,
    )
