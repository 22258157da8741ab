"""What do stages hand to each other inside one process? Tensors with their meaning.

`qzoom.model.handoff` turns these into the buffers of `qzoom.contracts` and back.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from qzoom.contracts.stages import Prompt


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
    """

    kv: Tensor
    hidden: Tensor


@dataclass(frozen=True, slots=True)
class PrefillState:
    """State of a coarse prompt after layer B.

    Attributes:
        prompt: The prompt.
        prefix: State up to the end of the last picture's tokens.
        suffix: State of the remaining tokens.
    """

    prompt: Prompt
    prefix: StatePart
    suffix: StatePart

    @property
    def hidden(self) -> Tensor:
        """Output of layer B for the whole prompt, [T, D]; a copy."""
        return torch.cat([self.prefix.hidden, self.suffix.hidden])

    def copy_kv(self, target: Tensor, num_tokens: int) -> None:
        """Copy the keys and values of the first tokens.

        Args:
            target: [B, 2, K, S, E] with S at least `num_tokens`; written in place.
            num_tokens: How many.
        """
        split = min(self.prefix.hidden.shape[0], num_tokens)
        target[..., :split, :] = self.prefix.kv[..., :split, :]
        if num_tokens > split:
            target[..., split:num_tokens, :] = self.suffix.kv[..., : num_tokens - split, :]
