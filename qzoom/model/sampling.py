"""Which token comes next? Greedy, or drawn from the nucleus with a generator per request."""

from collections.abc import Sequence

import torch
from torch import Tensor

from qzoom.contracts.sampling import Sampling


class Sampler:
    """Draws the tokens of one request.

    The generator is the request's own, so that its draws do not depend on the batch.

    Args:
        sampling: Temperature, top_p and seed.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._temperature, self._top_p = sampling.temperature, sampling.top_p
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken, without drawing."""
        return self._temperature == 0

    def draw(self, logits_C: Tensor) -> int:
        """Choose a token.

        Args:
            logits_C: float32, on any device.
        """
        if self.is_greedy:
            return int(logits_C.argmax())
        # On the CPU in float64: the same seed gives the same answer on every device.
        p_C = torch.softmax(logits_C.cpu().double() / self._temperature, dim=-1)
        p_sorted, order = p_C.sort(descending=True, stable=True)
        # A token belongs to the nucleus if those before it do not fill it yet.
        before = p_sorted.cumsum(dim=-1) - p_sorted
        p_sorted = p_sorted.masked_fill(before >= self._top_p, 0.0)
        return int(order[torch.multinomial(p_sorted, 1, generator=self._generator)])


def draw_tokens(logits_RC: Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """Choose a token for each row; the greedy ones in one go."""
    greedy = logits_RC.argmax(dim=-1).tolist()
    return [
        best if sampler.is_greedy else sampler.draw(logits_C)
        for best, sampler, logits_C in zip(greedy, samplers, logits_RC, strict=True)
    ]
