"""What does the gate keep of an image block?"""

from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from qzoom.contracts.tensors import Buffer, BundleHeader
from qzoom.model.prefill import GateBlock


@dataclass(frozen=True, slots=True)
class Held:
    """A block as it is sent, and as the next question uses it."""

    header: BundleHeader
    buffer: Buffer
    block: GateBlock

    @property
    def num_bytes(self) -> int:
        """Memory of both."""
        branch = self.block.branch
        return self.buffer.nbytes + (0 if branch is None else branch.nbytes)

    def with_branch(self, branch: Tensor | None) -> Self:
        """Add what the gate's own layers computed, unless it is there."""
        if branch is None or self.block.branch is not None:
            return self
        # What is kept must not hold on to the tensors of the whole batch.
        return replace(self, block=replace(self.block, branch=branch.clone()))
