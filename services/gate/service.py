"""What does the gate do with a request? Tokenise aside, then prefill layers 1..B in batches."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Self

from torch import nn

from qzoom.contracts.stages import Encoded, Prefill, Prefilled, Prompt
from qzoom.contracts.tensors import Buffer, BundleHeader
from qzoom.errors import TooLarge
from qzoom.model.handoff import pack_part, unpack_visual
from qzoom.model.loading import Checkpoint
from qzoom.model.prefill import PrefillGate, PrefillInput
from qzoom.model.stack import TokenLayerCounter
from qzoom.serving.abandon import StopBetweenLayers
from qzoom.serving.batcher import Batcher
from qzoom.serving.loading import dtype_of, open_for
from services.gate.facts import model_facts
from services.gate.settings import GateSettings

Bundle = tuple[BundleHeader, Buffer]


@dataclass(frozen=True, slots=True)
class _Item:
    prompt: Prompt
    images: tuple[Encoded, ...]
    visuals: Sequence[Buffer]
    want_gate: bool


@dataclass(frozen=True, slots=True)
class _Result:
    p_refine: float | None
    prefix: Bundle
    suffix: Bundle


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
        self._max_prompt_tokens = settings.max_prompt_tokens
        self.facts = model_facts(checkpoint, dtype_of(settings))
        self._batcher = Batcher(
            "gate",
            self._prefill,
            compute,
            max_tokens=settings.max_batch_tokens,
            max_waiting=settings.max_waiting,
            stop=StopBetweenLayers(gate),
            max_compute_s=settings.max_compute_s,
        )

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

    async def prefill(
        self, request: Prefill, visuals: Sequence[Buffer]
    ) -> tuple[Prefilled, Buffer, Buffer]:
        """Run layers 1..B and the gate over a conversation.

        Args:
            request: The conversation and the headers of its pictures.
            visuals: One buffer per picture of the request, in order.

        Returns:
            The reply, and the buffers of prefix and suffix.

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
        item = _Item(prompt, request.images, visuals, request.want_gate)
        result, timing = await self._batcher.submit(item, len(prompt.ids), request.context.deadline)
        (prefix, prefix_buffer), (suffix, suffix_buffer) = result.prefix, result.suffix
        reply = Prefilled(prompt, result.p_refine, prefix, suffix, timing)
        return reply, prefix_buffer, suffix_buffer

    def check_health(self) -> None:
        """Raise `Unavailable` if the computation hangs."""
        self._batcher.check_health()

    def close(self) -> None:
        """Stop taking work."""
        self._batcher.close()

    def _prefill(self, items: list[_Item]) -> list[_Result]:
        outputs = self._gate.run([_input(item) for item in items])
        return [
            _Result(output.p_refine, pack_part(output.state.prefix), pack_part(output.state.suffix))
            for output in outputs
        ]


def _input(item: _Item) -> PrefillInput:
    visuals = [
        unpack_visual(image.grid, image.visual, buffer)
        for image, buffer in zip(item.images, item.visuals, strict=True)
    ]
    return PrefillInput(item.prompt, visuals, item.want_gate)
