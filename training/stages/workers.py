"""One worker or many: sums over the workers of a run, by torch.distributed where it is set up.

Whoever starts several workers (a Ray launcher, torchrun) initialises the process group; a run
that finds none is alone.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, distributed


class Workers:
    """The workers of this run."""

    def __init__(self) -> None:
        self._is_many = distributed.is_available() and distributed.is_initialized()
        # NCCL sums tensors on GPUs only.
        is_nccl = self._is_many and distributed.get_backend() == "nccl"
        self._device = torch.device("cuda" if is_nccl else "cpu")
        self.rank = distributed.get_rank() if self._is_many else 0
        self.count = distributed.get_world_size() if self._is_many else 1

    @property
    def is_first(self) -> bool:
        """Whether this worker writes files."""
        return self.rank == 0

    def share(self, numbers: Sequence[int]) -> list[int]:
        """This worker's part of a batch, neighbours together."""
        return [int(n) for n in np.array_split(np.asarray(numbers), self.count)[self.rank]]

    def total(self, *values: float) -> tuple[float, ...]:
        """Sum of values over all workers."""
        if not self._is_many:
            return values
        summed = torch.tensor(values, dtype=torch.float64, device=self._device)
        distributed.all_reduce(summed)
        return tuple(summed.tolist())

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Sum the gradients over all workers; one without a gradient counts as zero."""
        if not self._is_many:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)

    def wait(self) -> None:
        """Wait for all workers."""
        if self._is_many:
            distributed.barrier()
