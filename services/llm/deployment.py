"""The llm as a Ray Serve deployment: state in, an answer out, token by token.

Importing this module loads neither torch nor the model; a replica does, in its compute thread.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from ray import serve

from qzoom.contracts.stages import Resume, Token
from qzoom.contracts.status import ReplicaStatus
from qzoom.serving.references import Reference, reader
from qzoom.serving.replica import Replica
from qzoom.telemetry.names import Span
from services.llm.settings import LlmSettings

if TYPE_CHECKING:
    from services.llm.service import LlmService


@serve.deployment(name="llm")
class LlmDeployment:
    """One replica of the llm.

    Args:
        settings: Of the service.
    """

    def __init__(self, settings: LlmSettings) -> None:
        self._replica = Replica("llm", settings)
        self._service = self._replica.load(lambda: _load(settings, self._replica))

    async def answer(
        self, request: Resume, references: Sequence[Reference]
    ) -> AsyncGenerator[Token, None]:
        """Yield tokens; closing or cancelling the generator ends the decoding."""
        telemetry, context = self._replica.telemetry, request.context
        with telemetry.stage(Span.LLM_RESUME, context) as call:
            tokens = self._service.answer(request, reader(references, context.deadline))
            token = await anext(tokens)
            assert token.resume is not None, "the first token carries the time of the prefill"
            call.ran(token.resume)
        async with aclosing(tokens):
            if token.finish is None:
                with telemetry.stage(Span.LLM_DECODE, context) as call:
                    while token.finish is None:
                        yield token
                        token = await anext(tokens)
                    assert token.decode is not None, "the last token carries the time of decoding"
                    call.ran(token.decode)
            yield token

    async def status(self) -> ReplicaStatus:
        """What this replica holds."""
        return self._replica.status

    async def num_running(self) -> int:
        """Requests that hold a KV slot."""
        return self._service.num_running

    def check_health(self) -> None:
        """Called by Serve, which replaces a replica whose check raises."""
        self._service.check_health()

    async def work(self) -> dict[tuple[str, int], int]:
        """Tokens that this replica computed, by stack and layer, where it counts them."""
        return self._service.work

    def __del__(self) -> None:
        """Stop what this replica started."""
        self._service.close()
        self._replica.close()


def _load(settings: LlmSettings, replica: Replica) -> "LlmService":
    from services.llm.service import LlmService  # noqa: PLC0415 brings torch

    return LlmService.load(settings, replica.prepare_thread)
