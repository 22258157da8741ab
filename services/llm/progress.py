"""Where does each request of the scheduler stand, and what limits them all?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from qzoom.model.decoder import Resumption
from qzoom.model.generation import Generation
from services.llm.job import Job

DIRECT_SHARE = 4
"""One slot of so many is never given to a zooming request."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What limits the scheduler.

    Attributes:
        max_prefill_tokens: Most prompt tokens at once while nobody decodes.
        chunk_tokens: Most prompt tokens between two steps of decoding.
        max_waiting: Most requests that wait for a slot; more are refused.
        max_compute_s: A round that takes longer hangs.
    """

    max_prefill_tokens: int
    chunk_tokens: int
    max_waiting: int
    max_compute_s: float = math.inf


@dataclass(eq=False)
class Holder:
    """A request that holds a slot.

    Attributes:
        job: What was asked.
    """

    job: Job


@dataclass(eq=False)
class Prefilling(Holder):
    """A request whose prompt is not complete.

    Attributes:
        resumption: How far its prefill is.
        past: The blocks that it reuses.
        missing: Keys of the blocks that it computes.
        started: Monotonic time of its first chunk in seconds; None before.
    """

    resumption: Resumption
    past: Sequence[Tensor]
    missing: frozenset[bytes]
    started: float | None = None


@dataclass(eq=False)
class Running(Holder):
    """An answer that is being written.

    Attributes:
        generation: What was drawn so far.
        started: Monotonic time of the first token in seconds.
        batch_size: Most requests that shared a step with it.
    """

    generation: Generation
    started: float
    batch_size: int = 1


def max_zooms(num_slots: int) -> int:
    """Slots that zooming requests may hold together, so that direct ones need not wait for them."""
    return num_slots - math.ceil(num_slots / DIRECT_SHARE) if num_slots > 1 else 1
