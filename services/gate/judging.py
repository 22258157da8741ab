"""The gate alone, over a state that was computed without it.

Where the RPN runs without waiting for the gate, both read the same state at the same time
(docs/decisions/0009-speculation.md).
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from qzoom.contracts.stages import Judge, Judged
from qzoom.model.handoff import unpack_state
from qzoom.model.prefill import PrefillGate, PrefillInput
from qzoom.model.state import PrefillState
from qzoom.serving.abandon import StopBetweenLayers
from qzoom.serving.batcher import Batcher
from qzoom.serving.prefixes import PrefixCache, end_of, usable
from qzoom.serving.references import Reader
from services.gate.held import Held
from services.gate.settings import GateSettings


@dataclass(frozen=True, slots=True)
class _Item:
    prefill: PrefillInput
    state: PrefillState
    keys: Sequence[bytes]
    found: Sequence[Held]


class Judging:
    """Batches around the gate's own layers.

    Args:
        gate: The stage.
        cache: Blocks that the service keeps; they learn the gate's branch here.
        settings: Of the service.
        compute: The replica's compute thread.
    """

    def __init__(
        self,
        gate: PrefillGate,
        cache: PrefixCache[Held],
        settings: GateSettings,
        compute: Executor,
    ) -> None:
        self._gate, self._cache = gate, cache
        self._batcher = Batcher(
            "gate",
            self._judge,
            compute,
            max_tokens=settings.max_batch_tokens,
            max_waiting=settings.max_waiting,
            stop=StopBetweenLayers(gate.gate),
            max_compute_s=settings.max_compute_s,
        )

    async def judge(self, request: Judge, read: Reader) -> Judged:
        """Score a prompt.

        Args:
            request: The coarse prompt, its headers and keys.
            read: Opens the state of the blocks, then of the suffix, where it is needed.

        Raises:
            QZoomError: If the state cannot be read, or not in time.
        """
        reply, prompt = request.prefilled, request.prefilled.prompt
        keys = usable(prompt, reply.keys)
        found = self._cache.find(keys)
        opened = await read(range(len(found), len(reply.blocks) + 1))
        buffers = [*(held.buffer for held in found), *opened]
        blocks = list(zip(reply.blocks, buffers[:-1], strict=True))
        state = unpack_state(prompt, blocks, (reply.suffix, buffers[-1]))
        prefill = PrefillInput(prompt, (), past=[held.block for held in found])
        item = _Item(prefill, state, keys, found)
        num_new = len(prompt.ids) - end_of(prompt, found)
        p_refine, timing = await self._batcher.submit(
            item, num_new, request.context.deadline, trace=request.context.traceparent
        )
        return Judged(p_refine, timing)

    def check_health(self) -> None:
        """Raise `Unavailable` if the computation hangs."""
        self._batcher.check_health()

    def close(self) -> None:
        """Stop taking work."""
        self._batcher.close()

    def _judge(self, items: list[_Item]) -> list[float | None]:
        scored = self._gate.judge([(item.prefill, item.state) for item in items])
        for item, (_, branch) in zip(items, scored, strict=True):
            learnt = [held.with_branch(own) for held, own in zip(item.found, branch, strict=False)]
            self._cache.put(item.keys[: len(learnt)], learnt)
        return [p_refine for p_refine, _ in scored]
