"""What does the gate do with a request? Tokenise aside, then prefill layers 1..B in batches.

The state of image blocks is kept, so that a later question computes its own tokens only; questions
about one picture that arrive together share it too.
"""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Self

from torch import nn

from qzoom.contracts.keys import block_keys
from qzoom.contracts.stages import (
    CacheUse,
    Encoded,
    ImageSpan,
    Judge,
    Judged,
    Prefill,
    Prefilled,
)
from qzoom.contracts.tensors import Buffer, BundleHeader
from qzoom.errors import TooLarge
from qzoom.model.handoff import pack_part, unpack_part, unpack_visual
from qzoom.model.loading import Checkpoint
from qzoom.model.prefill import GateBlock, PrefillGate, PrefillInput
from qzoom.model.stack import TokenLayerCounter
from qzoom.model.state import StatePart, VisualTokens
from qzoom.serving.abandon import StopBetweenLayers
from qzoom.serving.batcher import Batcher
from qzoom.serving.loading import dtype_of, fingerprint_of, open_for
from qzoom.serving.prefixes import Chain, PrefixCache, SharedBatch, end_of, usable
from qzoom.serving.references import Reader
from services.gate.facts import model_facts
from services.gate.held import Held
from services.gate.judging import Judging
from services.gate.settings import GateSettings

Bundle = tuple[BundleHeader, Buffer]


@dataclass(frozen=True, slots=True)
class _Item:
    chain: Chain[Held]
    visuals: Sequence[VisualTokens | None]
    want_gate: bool


@dataclass(frozen=True, slots=True)
class _Result:
    p_refine: float | None
    blocks: Sequence[Held]
    suffix: Bundle
    use: CacheUse | None


class GateService:
    """Batches around a `PrefillGate`.

    Args:
        gate: The stage.
        checkpoint: What it was loaded from.
        settings: Of the service.
        compute: The replica's compute thread.
    """

    def __init__(
        self, gate: PrefillGate, checkpoint: Checkpoint, settings: GateSettings, compute: Executor
    ) -> None:
        self._gate = gate
        self._model = fingerprint_of(checkpoint, settings)
        self._is_on_cpu = settings.device == "cpu"
        self._cache = PrefixCache[Held](settings.reuse_bytes, lambda held: held.num_bytes)
        self._max_prompt_tokens = settings.max_prompt_tokens
        self.facts = model_facts(checkpoint, dtype_of(settings), settings.max_prompt_tokens)
        self._batcher = Batcher(
            "gate",
            self._prefill,
            compute,
            max_tokens=settings.max_batch_tokens,
            max_waiting=settings.max_waiting,
            stop=StopBetweenLayers(gate),
            max_compute_s=settings.max_compute_s,
        )
        self._judging = Judging(gate, self._cache, settings, compute)

    @classmethod
    def load(cls, settings: GateSettings, compute: Executor) -> Self:
        """Read the embeddings, layers 1..B and the gate.

        Raises:
            ValueError: If the checkpoint cannot be used.
        """
        checkpoint = open_for(settings)
        gate = PrefillGate.load(
            checkpoint,
            device=settings.device,
            dtype=dtype_of(settings),
            trim=settings.trim,
            counter=TokenLayerCounter() if settings.count_work else None,
        )
        return cls(gate, checkpoint, settings, compute)

    def parameters(self) -> Iterator[nn.Parameter]:
        """All parameters of the stage."""
        return self._gate.parameters()

    @property
    def work(self) -> dict[tuple[str, int], int]:
        """Tokens that were computed by stack and layer; empty where nothing is counted."""
        return {} if self._gate.counter is None else dict(self._gate.counter.pairs)

    async def prefill(self, request: Prefill, read: Reader) -> tuple[Prefilled, Sequence[Buffer]]:
        """Run layers 1..B and the gate over a conversation.

        Args:
            request: The conversation, and the headers and keys of its pictures.
            read: Opens the encoding of a picture, in the order of the request, where it is needed.

        Returns:
            The reply, the buffers of the blocks that the caller does not hold, and of the suffix.

        Raises:
            TooLarge: If the prompt is too long.
            QZoomError: If it cannot be prefilled, or not in time.
        """
        grids = [image.grid for image in request.images]
        prompt = await asyncio.to_thread(
            self._gate.tokenize, request.conversation, grids, request.image_sizes
        )
        if len(prompt.ids) > self._max_prompt_tokens:
            raise TooLarge(
                f"the prompt has {len(prompt.ids)} tokens with its visual tokens, "
                f"at most {self._max_prompt_tokens}",
                param="messages",
            )
        pictures = [image.key for image in request.images]
        keys = block_keys(self._model, request.context.tenant, prompt, pictures)
        found = self._cache.find(usable(prompt, keys))
        visuals = await _open(request.images, prompt.spans[len(found) :], read)
        item = _Item(Chain(prompt, keys, found), visuals, request.want_gate)
        num_new = len(prompt.ids) - end_of(prompt, found)
        context = request.context
        result, timing = await self._batcher.submit(
            item, num_new, context.deadline, trace=context.traceparent
        )
        header, suffix = result.suffix
        reply = Prefilled(
            prompt,
            result.p_refine,
            tuple(held.header for held in result.blocks),
            keys,
            header,
            replace(timing, cache=result.use),
        )
        sent = [
            held.buffer
            for held, key in zip(result.blocks, keys, strict=True)
            if key not in request.held
        ]
        return reply, [*sent, suffix]

    async def judge(self, request: Judge, read: Reader) -> Judged:
        """Score a prompt that was prefilled without the gate, see `Judging.judge`."""
        return await self._judging.judge(request, read)

    def check_health(self) -> None:
        """Raise `Unavailable` if the computation hangs."""
        self._batcher.check_health()
        self._judging.check_health()

    def close(self) -> None:
        """Stop taking work."""
        self._batcher.close()
        self._judging.close()

    def _prefill(self, items: list[_Item]) -> list[_Result]:
        results: dict[int, _Result] = {}
        batch = SharedBatch(self._cache, [item.chain for item in items])
        for chosen in batch.rounds():
            inputs = [_input(items[index], past) for index, past in chosen.items()]
            outputs = self._gate.run(inputs)
            for (index, past), output in zip(chosen.items(), outputs, strict=True):
                blocks = self._hold(past, output.blocks)
                batch.learn(index, blocks)
                assert output.state.suffix is not None, "a prompt does not end with a picture"
                suffix = pack_part(output.state.suffix)
                use = batch.use(index, past)
                results[index] = _Result(output.p_refine, blocks, suffix, use)
        return [results[index] for index in range(len(items))]

    def _hold(self, past: Sequence[Held], blocks: Sequence[GateBlock]) -> list[Held]:
        """Pack the new blocks; a known one gets the gate's branch if it had none."""
        held = [one.with_branch(block.branch) for one, block in zip(past, blocks, strict=False)]
        for block in blocks[len(past) :]:
            header, buffer = pack_part(block.state)
            # What is kept must not hold on to the tensors of the whole batch.
            state = (
                unpack_part(header, buffer)
                if self._is_on_cpu
                else StatePart(block.state.kv.clone(), block.state.hidden.clone())
            )
            branch = None if block.branch is None else block.branch.clone()
            held.append(Held(header, buffer, GateBlock(state, branch)))
        return held


def _input(item: _Item, past: Sequence[Held]) -> PrefillInput:
    blocks = [held.block for held in past]
    return PrefillInput(item.chain.prompt, item.visuals, item.want_gate, blocks)


async def _open(
    images: Sequence[Encoded], spans: Sequence[ImageSpan], read: Reader
) -> list[VisualTokens | None]:
    """Open the encodings of some pictures, and leave the others alone."""
    needed = sorted({span.image for span in spans})
    visuals: list[VisualTokens | None] = [None] * len(images)
    if needed:
        for place, buffer in zip(needed, await read(needed), strict=True):
            visuals[place] = unpack_visual(images[place].grid, images[place].visual, buffer)
    return visuals
