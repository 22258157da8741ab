"""Access of one gateway, put together: what the edge and the deployment need of it."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gateway.access.callers import Caller, Callers
from gateway.access.flow import AccessFlow
from gateway.access.guard import GuardedStore
from gateway.access.leases import Leases
from gateway.access.oidc import OidcVerifier
from gateway.access.quotas import Quotas, VisualCost
from gateway.access.replays import Replays
from gateway.access.report import AccessReport
from gateway.access.settings import AccessSettings
from gateway.access.shared import SharedState
from gateway.events import AnswerFlow
from qzoom.errors import Unauthenticated, Unavailable
from qzoom.store.base import Store
from qzoom.store.opening import open_store
from qzoom.store.runtime import RuntimeSettings
from qzoom.store.sqlite import SqliteStore
from qzoom.telemetry.gateway import GatewayTelemetry

LIMITS_S = {"redis": 0.05, "embedded": 5.0}
"""Longest wait of a request for the store. A server may be gone; a file of this machine is not, but
its lock may be held by a process that the machine is too busy to run."""


class Access:
    """Who may ask, and how much. Owns its store and the tasks that keep it; `close` ends them.

    Args:
        settings: What the operator chose.
        telemetry: Of the gateway.

    Raises:
        InvalidRequest: If the address of the store means none.
        StoreUnavailable: If the file of an embedded store cannot be used.
    """

    def __init__(self, settings: AccessSettings, telemetry: GatewayTelemetry) -> None:
        self._report = AccessReport(telemetry, lambda: self._shared.tenants)
        store: Store = open_store(settings.store, settings.namespace)
        self._guard = GuardedStore(store, SqliteStore(None), LIMITS_S[store.kind], self._report)
        self._shared = SharedState(self._guard, settings.initial)
        self._leases = Leases(self._guard)
        self._replays = Replays(self._guard, self._leases, settings.keep_answers_s)
        self._oidc = None if settings.oidc is None else OidcVerifier(settings.oidc)
        self._callers = Callers(self._shared, self._oidc, required=settings.required)
        self._quotas: Quotas | None = None
        self._closing: asyncio.Task[None] | None = None
        self.is_required = settings.required

    def around(self, flow: AnswerFlow, visual_cost: VisualCost) -> AccessFlow:
        """Put access around the flow of the method.

        Args:
            flow: Answers requests.
            visual_cost: Predicts what their pictures cost.
        """
        assert self._quotas is None, "access goes around one flow"
        self._quotas = Quotas(self._guard, self._shared, self._leases, visual_cost, self._report)
        return AccessFlow(flow, self._quotas, self._replays, self._report)

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Find out who asks.

        Args:
            headers: HTTP headers or gRPC metadata, lower-case names.

        Raises:
            Unauthenticated: If there is no valid key or token where one is needed.
            Unavailable: If that cannot be told at the moment.
        """
        try:
            return await self._callers.identify(headers)
        except Unauthenticated:
            self._report.unknown_caller()
            raise

    def reconfigure(self, initial: RuntimeSettings) -> None:
        """Obey other limits and another threshold, where `qzoom settings` has said nothing."""
        self._shared.reconfigure(initial)

    @property
    def has_read(self) -> bool:
        """Whether keys and settings are known."""
        return self._shared.was_read

    def check_ready(self) -> None:
        """Make sure that the store was asked, whether it has answered or not.

        Raises:
            Unavailable: In the first moment after the start.
        """
        if not (self.has_read or self._guard.is_degraded):
            raise Unavailable("not ready: the store is being read", retry_after_s=1)

    @property
    def tau_gate(self) -> float | None:
        """Threshold of the gate where a request does not say; None leaves it to the model."""
        return self._shared.settings.tau_gate

    def status(self) -> dict[str, Any]:
        """Describe the store for /readyz."""
        return asdict(self._guard.state)

    def close(self) -> None:
        """Stop the tasks, and let go of the store when what is under way has ended."""
        self._shared.close()
        self._leases.close()
        with contextlib.suppress(RuntimeError):  # Of an event loop that has ended already.
            self._closing = asyncio.get_running_loop().create_task(self._close())

    async def _close(self) -> None:
        if self._quotas is not None:
            await self._quotas.close()
        await self._replays.close()
        if self._oidc is not None:
            await self._oidc.close()
        await self._guard.close()
