"""Optimizers: Muon on hidden matrices, AdamW on everything else."""

import torch
from torch import nn

from training.muon import Muon

OUTER = ("embed", "lm_head", "head.", "chars", "order", "place")
"""Parts of parameter names of input and output matrices, which Muon is not meant for."""

ADAMW_BETAS = (0.9, 0.97)
"""The second moment forgets faster than usual: runs are a few thousand steps short."""


def build_optimizers(modules: list[nn.Module], weight_decay: float) -> list[torch.optim.Optimizer]:
    """Split parameters by shape.

    Args:
        modules: What is trained.
        weight_decay: Decoupled decay of the hidden matrices.
    """
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            outer = any(part in name for part in OUTER)
            hidden_matrix = parameter.ndim == 2 and not outer
            (hidden if hidden_matrix else rest).append(parameter)
    muon = Muon(hidden, weight_decay=weight_decay)
    adamw = torch.optim.AdamW(rest, betas=ADAMW_BETAS, weight_decay=0.0)
    return [muon, adamw]


def set_lr(optimizers: list[torch.optim.Optimizer], lr: float) -> None:
    """Set the learning rate of every group."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
