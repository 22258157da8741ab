"""The encoder as a Ray Serve deployment: pictures and crops to visual tokens.

Importing this module loads neither torch nor the model; a replica does, in its compute thread.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from ray import serve

from qzoom.contracts.stages import EncodeCoarse, Encoded, EncodeRoi
from qzoom.contracts.status import ReplicaStatus
from qzoom.contracts.tensors import Buffer
from qzoom.serving.references import Reference, reader
from qzoom.serving.replica import Replica
from qzoom.telemetry.names import Span
from services.encoder.settings import EncoderSettings

if TYPE_CHECKING:
    from services.encoder.service import EncoderService


@serve.deployment(name="encoder")
class EncoderDeployment:
    """One replica of the encoder.

    Args:
        settings: Of the service.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        self._replica = Replica("encoder", settings)
        self._service = self._replica.load(lambda: _load(settings, self._replica))

    async def encode_coarse(
        self, request: EncodeCoarse, references: Sequence[Reference]
    ) -> AsyncGenerator[Encoded | Buffer, None]:
        """Yield the reply, then the buffer of visual tokens, for a whole picture."""
        with self._replica.telemetry.stage(Span.ENCODER_COARSE, request.context) as call:
            read = reader(references, request.context.deadline)
            encoded, visual = await self._service.encode_coarse(request, read)
            call.ran(encoded.timing)
        yield encoded
        yield visual

    async def encode_roi(
        self, request: EncodeRoi, references: Sequence[Reference]
    ) -> AsyncGenerator[Encoded | Buffer, None]:
        """Yield the reply, then the buffer of visual tokens, for a crop of the picture."""
        with self._replica.telemetry.stage(Span.ENCODER_ROI, request.context) as call:
            read = reader(references, request.context.deadline)
            encoded, visual = await self._service.encode_roi(request, read)
            call.ran(encoded.timing)
        yield encoded
        yield visual

    async def status(self) -> ReplicaStatus:
        """What this replica holds."""
        return self._replica.status

    def check_health(self) -> None:
        """Called by Serve, which replaces a replica whose check raises."""
        self._service.check_health()

    def __del__(self) -> None:
        """Stop what this replica started."""
        self._service.close()
        self._replica.close()


def _load(settings: EncoderSettings, replica: Replica) -> "EncoderService":
    from services.encoder.service import EncoderService  # noqa: PLC0415 brings torch

    return EncoderService.load(settings, replica.compute)
