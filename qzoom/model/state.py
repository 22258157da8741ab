"""What do stages hand to each other inside one process? Tensors with their meaning.

`qzoom.model.handoff` turns these into the buffers of `qzoom.contracts` and back.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qzoom.contracts.stages import Prompt
from qzoom.contracts.tensors import Buffer, BundleHeader


@dataclass(frozen=True, slots=True)
class VisualTokens:
    """One encoded picture or crop.

    Attributes:
        grid: (H, W) in cells.
        features: [1 + deepstack levels, V, D]; V is H * W, or fewer where tokens were dropped.
    """

    grid: tuple[int, int]
    features: Tensor

    @property
    def num_tokens(self) -> int:
        """V."""
        return self.features.shape[1]


@dataclass(frozen=True, slots=True)
class StatePart:
    """State of consecutive tokens after layer B.

    Attributes:
        kv: Keys and values of layers 1..B, [B, 2, K, T, E].
        hidden: Output of layer B, [T, D].
        bundle: The buffer that both lie in, with its header, where they were written into one from
            the start; None where they must be packed before they can travel.
    """

    kv: Tensor
    hidden: Tensor
    bundle: tuple[BundleHeader, Buffer] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class PrefillState:
    """State of a coarse prompt after layer B.

    Attributes:
        prompt: The prompt.
        blocks: State up to the end of each picture's tokens, behind the block before; None where
            whoever resumes has no need of it.
        suffix: State of the tokens behind the last picture; None as for blocks.
    """

    prompt: Prompt
    blocks: tuple[StatePart | None, ...]
    suffix: StatePart | None

    def _parts(self, start: int, end: int) -> Iterator[tuple[int, StatePart, slice]]:
        """Find the parts that hold the state of some tokens.

        Args:
            start: First token.
            end: Behind the last token.

        Yields:
            For each part the first of these tokens, the part, and where they are in it.

        Raises:
            ValueError: If a part holds the state of more or fewer tokens.
        """
        first = 0
        bounds = (*self.prompt.block_ends, len(self.prompt.ids))
        for part, last in zip((*self.blocks, self.suffix), bounds, strict=True):
            low, high = max(start, first), min(end, last)
            if low < high:
                assert part is not None, f"the state of tokens {first} to {last} is not here"
                if len(part.hidden) != last - first:
                    raise ValueError(f"state of {len(part.hidden)}, not {last - first}, tokens")
                yield low, part, slice(low - first, high - first)
            first = last

    def hidden(self, start: int, end: int) -> Tensor:
        """Output of layer B for some tokens, [end - start, D]."""
        pieces = [part.hidden[at] for _, part, at in self._parts(start, end)]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def copy_kv(self, target: Tensor, start: int, end: int) -> None:
        """Copy keys and values of some tokens to the same places.

        Args:
            target: [B, 2, K, S, E] with S at least `end`; written in place.
            start: First token.
            end: Behind the last token.
        """
        for low, part, at in self._parts(start, end):
            target[..., low : low + at.stop - at.start, :] = part.kv[..., at, :]
