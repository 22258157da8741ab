"""Are the services there, and what do they hold? Asked by the gateway, with deadlines."""

import asyncio
import time
from dataclasses import asdict
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from gateway.stages import Handles
from qzoom.contracts.status import ModelFacts, ReplicaStatus
from qzoom.errors import Unavailable

STATUS_TIMEOUT_S = 5.0
FACTS_TIMEOUT_S = 30.0
REPLICAS_TIMEOUT_S = 2.0
REPLICAS_KEPT_S = 1.0
"""Whoever asks more often gets what the last one got: Serve's controller has other work."""


class Services:
    """What one gateway knows of the four services.

    Args:
        handles: Of the services.
    """

    def __init__(self, handles: Handles) -> None:
        self._handles = handles
        self._facts: ModelFacts | None = None
        self._replicas: dict[str, Any] | None = None
        self._replicas_until = 0.0
        self._replicas_lock = asyncio.Lock()

    async def facts(self) -> ModelFacts:
        """Return what to know about the model; asked for once.

        Raises:
            Unavailable: If the gate service does not answer.
        """
        if self._facts is None:
            facts = await _ask(self._handles.gate, "facts", FACTS_TIMEOUT_S)
            assert isinstance(facts, ModelFacts)
            self._facts = facts
        return self._facts

    async def ready(self) -> dict[str, Any]:
        """Describe the model and one replica of each service.

        Raises:
            Unavailable: Naming the services that do not answer.
        """
        handles = (self._handles.encoder, self._handles.gate, self._handles.rpn, self._handles.llm)
        answers = await asyncio.gather(
            *(_ask(handle, "status", STATUS_TIMEOUT_S) for handle in handles),
            return_exceptions=True,
        )
        statuses = [answer for answer in answers if isinstance(answer, ReplicaStatus)]
        present = {status.service for status in statuses}
        missing = [h.deployment_name for h in handles if h.deployment_name not in present]
        if missing:
            raise Unavailable(f"not ready: {', '.join(missing)}")
        return {
            "status": "ready",
            "model": _without_curve(await self.facts()),
            "services": [asdict(status) for status in statuses],
        }

    async def replicas(self) -> dict[str, Any] | None:
        """Count the replicas of each deployment by their state; None if Serve does not answer."""
        async with self._replicas_lock:
            if time.monotonic() >= self._replicas_until:
                self._replicas = await self._count_replicas()
                self._replicas_until = time.monotonic() + REPLICAS_KEPT_S
            return self._replicas

    async def _count_replicas(self) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(REPLICAS_TIMEOUT_S):
                # Waits for Serve's controller; a thread of its own waits on where it is late.
                status = await asyncio.to_thread(serve.status)
        except (RayError, RayServeException, TimeoutError):
            return None
        application = status.applications.get(self._handles.gate.app_name)
        if application is None:
            return None
        return {
            name: {
                "status": deployment.status.value,
                # Ray types these as an enum and gives its values.
                "states": {str(state): n for state, n in deployment.replica_states.items()},
            }
            for name, deployment in sorted(application.deployments.items())
        }


def _without_curve(facts: ModelFacts) -> dict[str, Any]:
    told = asdict(facts)
    del told["accuracy_by_tau"]  # Long, and asked for every few seconds.
    return told


async def _ask(handle: DeploymentHandle[Any], method: str, timeout_s: float) -> object:
    try:
        async with asyncio.timeout(timeout_s):
            return await handle.options(method_name=method, _by_reference=True).remote()
    except (RayError, RayServeException, TimeoutError) as error:
        raise Unavailable(f"the {handle.deployment_name} service does not answer") from error
