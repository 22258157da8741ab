"""What does the RPN do with a request? Score the coarse cells in batches."""

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Self

from torch import nn

from qzoom.contracts.stages import Prefilled, Propose, Proposed
from qzoom.contracts.tensors import Buffer
from qzoom.errors import InvalidRequest
from qzoom.model.handoff import unpack_state
from qzoom.model.rpn import RegionProposer, RpnInput, RpnOutput
from qzoom.model.stack import TokenLayerCounter
from qzoom.serving.abandon import StopBetweenLayers
from qzoom.serving.batcher import Batcher
from qzoom.serving.loading import dtype_of, open_for
from services.rpn.settings import RpnSettings


@dataclass(frozen=True, slots=True)
class _Item:
    prefilled: Prefilled
    prefix: Buffer
    suffix: Buffer
    tau_roi: float | None


class RpnService:
    """Batches around a `RegionProposer`.

    Args:
        proposer: The stage; None where the checkpoint has no RPN, so that nothing can be asked.
        settings: Of the service.
        compute: The replica's compute thread.
    """

    def __init__(
        self, proposer: RegionProposer | None, settings: RpnSettings, compute: Executor
    ) -> None:
        self._proposer = proposer
        self._batcher = Batcher(
            "rpn",
            self._propose,
            compute,
            max_tokens=settings.max_batch_tokens,
            max_waiting=settings.max_waiting,
            stop=StopBetweenLayers(proposer),
            max_compute_s=settings.max_compute_s,
        )

    @classmethod
    def load(cls, settings: RpnSettings, compute: Executor) -> Self:
        """Read the RPN's own layers.

        Raises:
            ValueError: If the checkpoint cannot be used.
        """
        checkpoint = open_for(settings)
        if not checkpoint.qzoom.has_rpn:
            return cls(None, settings, compute)
        proposer = RegionProposer.load(
            checkpoint,
            device=settings.device,
            dtype=dtype_of(settings),
            counter=TokenLayerCounter() if settings.count_work else None,
        )
        return cls(proposer, settings, compute)

    def parameters(self) -> Iterator[nn.Parameter]:
        """All parameters of the stage."""
        return iter(()) if self._proposer is None else self._proposer.parameters()

    @property
    def work(self) -> dict[tuple[str, int], int]:
        """Tokens that were computed by stack and layer; empty where nothing is counted."""
        if self._proposer is None or self._proposer.counter is None:
            return {}
        return dict(self._proposer.counter.pairs)

    async def propose(self, request: Propose, prefix: Buffer, suffix: Buffer) -> Proposed:
        """Propose a region.

        Args:
            request: The coarse prompt and its headers.
            prefix: State up to the end of the last picture.
            suffix: State of the rest.

        Raises:
            InvalidRequest: If the checkpoint has no RPN.
            QZoomError: If the state cannot be read, or not in time.
        """
        if self._proposer is None:
            raise InvalidRequest("the model has no RPN", param="qzoom.route")
        item = _Item(request.prefilled, prefix, suffix, request.tau_roi)
        output, timing = await self._batcher.submit(
            item, len(request.prefilled.prompt.ids), request.context.deadline
        )
        return Proposed(
            proposal=output.proposal,
            tau_roi=output.tau_roi,
            heatmap=output.heatmap if request.want_heatmap else None,
            heatmap_image=output.heatmap_image,
            timing=timing,
        )

    def check_health(self) -> None:
        """Raise `Unavailable` if the computation hangs."""
        self._batcher.check_health()

    def close(self) -> None:
        """Stop taking work."""
        self._batcher.close()

    def _propose(self, items: list[_Item]) -> list[RpnOutput]:
        assert self._proposer is not None
        return self._proposer.run([_input(item) for item in items])


def _input(item: _Item) -> RpnInput:
    reply = item.prefilled
    state = unpack_state(reply.prompt, (reply.prefix, item.prefix), (reply.suffix, item.suffix))
    return RpnInput(state, item.tau_roi)
