"""Prefill and gate as a Ray Serve deployment: the coarse prompt to p(refine) and state.

Importing this module loads neither torch nor the model; a replica does, in its compute thread.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from ray import serve

from qzoom.contracts.stages import Judge, Judged, Prefill, Prefilled
from qzoom.contracts.status import ModelFacts, ReplicaStatus
from qzoom.contracts.tensors import Buffer
from qzoom.serving.references import Reference, reader
from qzoom.serving.replica import Replica
from qzoom.telemetry.names import Attribute, Span
from services.gate.settings import GateSettings

if TYPE_CHECKING:
    from services.gate.service import GateService


@serve.deployment(name="gate")
class GateDeployment:
    """One replica of prefill and gate.

    Args:
        settings: Of the service.
    """

    def __init__(self, settings: GateSettings) -> None:
        self._replica = Replica("gate", settings)
        self._service = self._replica.load(lambda: _load(settings, self._replica))

    async def prefill(
        self, request: Prefill, references: Sequence[Reference]
    ) -> AsyncGenerator[Prefilled | Buffer, None]:
        """Yield the reply, then the buffers of the state: the blocks to be sent, and the suffix."""
        with self._replica.telemetry.stage(Span.GATE_PREFILL, request.context) as call:
            read = reader(references, request.context.deadline)
            prefilled, buffers = await self._service.prefill(request, read)
            score = prefilled.p_refine
            call.ran(prefilled.timing, {} if score is None else {Attribute.P_REFINE: score})
        yield prefilled
        for buffer in buffers:
            yield buffer

    async def judge(
        self, request: Judge, references: Sequence[Reference]
    ) -> AsyncGenerator[Judged, None]:
        """Yield the gate's score of a state that was computed without it."""
        with self._replica.telemetry.stage(Span.GATE_PREFILL, request.context) as call:
            judged = await self._service.judge(
                request, reader(references, request.context.deadline)
            )
            score = judged.p_refine
            call.ran(judged.timing, {} if score is None else {Attribute.P_REFINE: score})
        yield judged

    async def facts(self) -> ModelFacts:
        """What the gateway must know about the model."""
        return self._service.facts

    async def status(self) -> ReplicaStatus:
        """What this replica holds."""
        return self._replica.status

    async def work(self) -> dict[tuple[str, int], int]:
        """Tokens that this replica computed, by stack and layer, where it counts them."""
        return self._service.work

    def check_health(self) -> None:
        """Called by Serve, which replaces a replica whose check raises."""
        self._service.check_health()

    def __del__(self) -> None:
        """Stop what this replica started."""
        self._service.close()
        self._replica.close()


def _load(settings: GateSettings, replica: Replica) -> "GateService":
    from services.gate.service import GateService  # noqa: PLC0415 brings torch

    return GateService.load(settings, replica.compute)
