"""Where is the desk? In one small actor for all gateways of an application.

An actor that dies is started again by Ray, and learns from the gateways' next reports what is in
work. While it is away, each gateway admits up to its own share of the bounds.
"""

import asyncio
import contextlib

import ray
from ray.exceptions import RayError

from gateway.actors import NAMESPACE, Actor, named_actor
from gateway.admission.bounds import AdmissionBounds
from gateway.admission.desk import Desk, share_of
from gateway.admission.tickets import Ask, DeskState, Grant, Refusal

REPORT_PERIOD_S = 1.0
CALL_TIMEOUT_S = 5.0
MAX_CALLS = 10_000
"""Calls that the actor works on at once; those that wait in its queue are among them."""


class DeskActor(Desk):
    """The desk as an actor. Ray runs the methods of such a class on one event loop."""

    async def admit(self, ask: Ask) -> Grant | Refusal:
        """As `Desk.admit`."""
        return await super().admit(ask)

    async def get_state(self) -> DeskState:
        """What the desk sees now."""
        return self.state


def desk_name(application: str) -> str:
    """Name of an application's desk in Ray's namespace `qzoom`."""
    return f"qzoom-desk-{application}"


class SharedDesk:
    """One gateway's way to the desk. Owns the task that reports to it.

    Args:
        application: Name of the Serve application; its gateways share a desk.
        gateway: Name of this gateway.
        bounds: Over all gateways.
    """

    def __init__(self, application: str, gateway: str, bounds: AdmissionBounds) -> None:
        self._name = desk_name(application)
        self._gateway = gateway
        self._bounds = bounds
        self._own = Desk(bounds)
        self._held: dict[str, Ask] = {}
        self._is_up = True
        self._actor = self._find()
        self._actor.configure.remote(bounds)
        self.state = DeskState(0, 0, 0, is_draining=False)
        self._reporting = asyncio.get_running_loop().create_task(
            self._report_always(), name="desk-reports"
        )

    async def admit(self, ask: Ask) -> Grant | Refusal:
        """Ask the desk; where there is none, decide alone."""
        reply: Grant | Refusal | None = None
        if self._is_up:
            try:
                reply = await self._actor.admit.remote(ask)
            except RayError:
                self._is_up = False
        if reply is None:
            reply = await self._own.admit(ask)
        if isinstance(reply, Grant):
            self._held[ask.ticket] = ask
        return reply

    def configure(self, bounds: AdmissionBounds) -> None:
        """Take other bounds, here and at the desk; does not wait."""
        self._bounds = bounds
        self._own.configure(share_of(bounds, self.state.num_gateways))
        self._actor.configure.remote(bounds)

    def release(self, ticket: str) -> None:
        """Give up a ticket; does not wait."""
        self._held.pop(ticket, None)
        self._own.release(ticket)
        self._actor.release.remote(ticket)

    def drain(self) -> None:
        """Refuse new work in all gateways."""
        self._own.drain()
        self._actor.drain.remote()

    def close(self) -> None:
        """Stop reporting, and give up what this gateway holds."""
        self._reporting.cancel()
        for ticket in list(self._held):
            self.release(ticket)

    async def _report_always(self) -> None:
        while True:
            try:
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    self.state = await self._actor.report.remote(self._gateway, dict(self._held))
                self._is_up = True
                # In case that the desk goes away.
                self._own.configure(share_of(self._bounds, self.state.num_gateways))
            except (RayError, TimeoutError):
                self._is_up = False
                with contextlib.suppress(RayError, ValueError):
                    self._actor = self._find()
                    self._actor.configure.remote(self._bounds)
            await asyncio.sleep(REPORT_PERIOD_S)

    def _find(self) -> Actor:
        return named_actor(DeskActor, self._name, self._bounds, max_concurrency=MAX_CALLS)


async def drain_application(application: str, timeout_s: float) -> bool:
    """Refuse new work in all gateways and wait until the last request has ended.

    Args:
        application: Name of the Serve application.
        timeout_s: Longest wait in seconds.

    Returns:
        Whether all ended; also True where there is no desk, so that nothing was ever asked.
    """
    try:
        actor = ray.get_actor(desk_name(application), namespace=NAMESPACE)
    except ValueError:
        return True
    with contextlib.suppress(RayError, TimeoutError):
        async with asyncio.timeout(timeout_s):
            await actor.drain.remote()
            while True:
                state: DeskState = await actor.get_state.remote()
                if not state.in_work and not state.waiting:
                    return True
                await asyncio.sleep(REPORT_PERIOD_S / 4)
    return False
