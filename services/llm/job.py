"""What is one answer to be written? From its arrival until the last token."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from qzoom.contracts.sampling import Sampling
from qzoom.model.decoder import Roi
from qzoom.model.state import PrefillState
from services.llm.mailbox import Mailbox


@dataclass(frozen=True, slots=True)
class Prefix:
    """What a request may share with others: the beginning of its sequence, block by block.

    Attributes:
        keys: Names each block, and all that comes before it, by its content.
        ends: Tokens up to the end of each block; the last leaves some of the prompt.
        found: Keys and values of the first blocks, as far as they were known on arrival,
            [L, 2, K, S, E] each.
    """

    keys: tuple[bytes, ...] = ()
    ends: tuple[int, ...] = ()
    found: Sequence[Tensor] = ()


@dataclass(eq=False)
class Job:
    """One answer to be written.

    Attributes:
        state: What the prefill resumes from; dropped when it has.
        roi: The RoI and its encoding; None takes the direct route.
        num_tokens: Length of the whole prompt, RoI included.
        sampling: How to draw tokens, and what ends the answer.
        deadline: Unix time in seconds after which nobody waits.
        mailbox: Where tokens go.
        prefix: What it may share with other requests.
        trace: `traceparent` of the request; empty where nothing is traced.
        is_cancelled: Set by the reader; the scheduler looks at it between steps.
        arrived: Monotonic time in seconds.
    """

    state: PrefillState | None
    roi: Roi | None
    num_tokens: int
    sampling: Sampling
    deadline: float
    mailbox: Mailbox
    prefix: Prefix = field(default_factory=Prefix)
    trace: str = ""
    is_cancelled: bool = False
    arrived: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Remember the route, which outlives the RoI's encoding."""
        self.is_zoom = self.roi is not None

    @property
    def urgency(self) -> tuple[bool, float, float]:
        """Who comes first: the direct route, then the earlier deadline, then who came first."""
        return self.is_zoom, self.deadline, self.arrived

    @property
    def is_unwanted(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.is_cancelled or time.time() > self.deadline
