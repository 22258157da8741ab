"""What does the RPN do with a request? Score the coarse cells in batches.

What its branch computed over image blocks is kept, as in the gate service.
"""

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Self

from torch import nn

from qzoom.contracts.stages import CacheUse, Propose, Proposed
from qzoom.errors import InvalidRequest
from qzoom.model.handoff import unpack_state
from qzoom.model.rpn import RegionProposer, RpnBlock, RpnInput, RpnOutput
from qzoom.model.stack import TokenLayerCounter
from qzoom.model.state import PrefillState
from qzoom.serving.abandon import StopBetweenLayers
from qzoom.serving.batcher import Batcher
from qzoom.serving.loading import dtype_of, open_for
from qzoom.serving.prefixes import Chain, PrefixCache, SharedBatch, end_of, usable
from qzoom.serving.references import Reader
from services.rpn.settings import RpnSettings


@dataclass(frozen=True, slots=True)
class _Item:
    state: PrefillState
    chain: Chain[RpnBlock]
    tau_roi: float | None


@dataclass(frozen=True, slots=True)
class _Result:
    output: RpnOutput
    use: CacheUse | None


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
        self._cache = PrefixCache[RpnBlock](settings.reuse_bytes, lambda block: block.num_bytes)
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

    async def propose(self, request: Propose, read: Reader) -> Proposed:
        """Propose a region.

        Args:
            request: The coarse prompt, its headers and keys.
            read: Opens the state of the blocks, then of the suffix, where it is needed.

        Raises:
            InvalidRequest: If the checkpoint has no RPN.
            QZoomError: If the state cannot be read, or not in time.
        """
        if self._proposer is None:
            raise InvalidRequest("the model has no RPN", param="qzoom.route")
        reply, prompt = request.prefilled, request.prefilled.prompt
        found = self._cache.find(usable(prompt, reply.keys))
        num_known, num_blocks = len(found), len(reply.blocks)
        opened = await read(range(num_known, num_blocks + 1))
        buffers = [*[None] * num_known, *opened]
        state = unpack_state(
            prompt,
            list(zip(reply.blocks, buffers[:-1], strict=True)),
            (reply.suffix, buffers[-1]),
        )
        item = _Item(state, Chain(prompt, reply.keys, found), request.tau_roi)
        num_new = len(prompt.ids) - end_of(prompt, found)
        context = request.context
        result, timing = await self._batcher.submit(
            item, num_new, context.deadline, trace=context.traceparent
        )
        output = result.output
        return Proposed(
            proposal=output.proposal,
            tau_roi=output.tau_roi,
            heatmap=output.heatmap if request.want_heatmap else None,
            heatmap_image=output.heatmap_image,
            timing=replace(timing, cache=result.use),
        )

    def check_health(self) -> None:
        """Raise `Unavailable` if the computation hangs."""
        self._batcher.check_health()

    def close(self) -> None:
        """Stop taking work."""
        self._batcher.close()

    def _propose(self, items: list[_Item]) -> list[_Result]:
        assert self._proposer is not None
        results: dict[int, _Result] = {}
        batch = SharedBatch(self._cache, [item.chain for item in items])
        for chosen in batch.rounds():
            inputs = [
                RpnInput(items[index].state, items[index].tau_roi, past)
                for index, past in chosen.items()
            ]
            outputs = self._proposer.run(inputs)
            for (index, past), output in zip(chosen.items(), outputs, strict=True):
                batch.learn(index, output.blocks)
                results[index] = _Result(replace(output, blocks=()), batch.use(index, past))
        return [results[index] for index in range(len(items))]
