"""What is one answer to be written? From its arrival until the last token."""

import time
from dataclasses import dataclass, field

from qzoom.contracts.sampling import Sampling
from qzoom.model.decoder import Roi
from qzoom.model.state import PrefillState
from services.llm.mailbox import Mailbox


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
        is_cancelled: Set by the reader; the scheduler looks at it between steps.
        arrived: Monotonic time in seconds.
    """

    state: PrefillState | None
    roi: Roi | None
    num_tokens: int
    sampling: Sampling
    deadline: float
    mailbox: Mailbox
    is_cancelled: bool = False
    arrived: float = field(default_factory=time.monotonic)

    @property
    def is_unwanted(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.is_cancelled or time.time() > self.deadline
