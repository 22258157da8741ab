"""Muon in fp32, all matrices of one shape at once: torch's own runs one by one in bfloat16.

On a CPU without bfloat16 units that costs as much as the rest of the step. The update is the same:
Nesterov momentum, made (nearly) orthogonal by a quintic Newton-Schulz iteration, scaled so that its
RMS is that of an AdamW step.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_ADAMW_RMS = 0.2
"""Root mean square of a typical AdamW update, in units of the learning rate."""


def orthogonalize(matrices: Tensor) -> Tensor:
    """Replace the singular values of matrices [N, rows, columns] by values near 1."""
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """Muon for hidden matrices.

    Args:
        params: Matrices (two axes).
        lr: Learning rate, as for AdamW.
        momentum: Of the gradient's moving average.
        weight_decay: Decoupled.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override] # takes no closure
        """Update every matrix that has a gradient."""
        assert closure is None, "a closure is not supported"
        for group in self.param_groups:
            alike: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for shape, parameters in alike.items():
                updates = [self._momentum(p, group["momentum"]) for p in parameters]
                lr = group["lr"]
                scale = _ADAMW_RMS * max(shape) ** 0.5
                for parameter, update in zip(
                    parameters, orthogonalize(torch.stack(updates)), strict=True
                ):
                    parameter.mul_(1 - lr * group["weight_decay"])
                    parameter.add_(update, alpha=-lr * scale)

    def _momentum(self, parameter: torch.nn.Parameter, momentum: float) -> Tensor:
        assert parameter.grad is not None
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        average: Tensor = state["momentum"]
        average.lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(average, momentum)
