"""How does a module get the tensors of a checkpoint? By assignment, without a second copy."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def assign_tensors(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    prefix: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Replace the parameters of a module, which was made on the meta device.

    Args:
        module: Put into evaluation mode, its parameters need no gradient afterwards.
        tensors: By canonical name; those that do not start with `prefix` are left alone.
        prefix: What comes before the module's own names.
        device: Where the parameters go.
        dtype: What they are converted to.

    Raises:
        ValueError: Naming the tensors that are missing, superfluous or of another shape.
    """
    own = {
        name.removeprefix(prefix): tensor.to(device=device, dtype=dtype)
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    expected = {name: tuple(p.shape) for name, p in module.named_parameters()}
    missing = [prefix + name for name in expected if name not in own]
    wrong = [
        f"{prefix}{name} {tuple(t.shape)}, expected {expected.get(name, 'no such tensor')}"
        for name, t in own.items()
        if expected.get(name) != tuple(t.shape)
    ]
    if missing or wrong:
        raise ValueError(
            f"the checkpoint does not fit: missing {missing[:5]}, wrong {wrong[:5]} "
            f"({len(missing)} and {len(wrong)} in all)"
        )
    module.load_state_dict(own, strict=True, assign=True)
    module.requires_grad_(False).eval()


def count_parameters(module: nn.Module) -> int:
    """Number of parameter elements that a module holds, shared ones once."""
    return sum(p.numel() for p in {id(p): p for p in module.parameters()}.values())
