"""The RPN as a Ray Serve deployment: the state after layer B to a region of interest.

Importing this module loads neither torch nor the model; a replica does, in its compute thread.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from ray import serve

from qzoom.contracts.stages import Propose, Proposed
from qzoom.contracts.status import ReplicaStatus
from qzoom.serving.references import Reference, reader
from qzoom.serving.replica import Replica
from qzoom.telemetry.names import Span
from services.rpn.settings import RpnSettings

if TYPE_CHECKING:
    from services.rpn.service import RpnService


@serve.deployment(name="rpn")
class RpnDeployment:
    """One replica of the RPN.

    Args:
        settings: Of the service.
    """

    def __init__(self, settings: RpnSettings) -> None:
        self._replica = Replica("rpn", settings)
        self._service = self._replica.load(lambda: _load(settings, self._replica))

    async def propose(
        self, request: Propose, references: Sequence[Reference]
    ) -> AsyncGenerator[Proposed, None]:
        """Yield the proposal; a generator like the methods that also yield state."""
        with self._replica.telemetry.stage(Span.RPN_PROPOSE, request.context) as call:
            read = reader(references, request.context.deadline)
            proposed = await self._service.propose(request, read)
            call.ran(proposed.timing)
        yield proposed

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


def _load(settings: RpnSettings, replica: Replica) -> "RpnService":
    from services.rpn.service import RpnService  # noqa: PLC0415 brings torch

    return RpnService.load(settings, replica.compute)
