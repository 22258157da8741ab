"""What do gateways and the desk say to each other? A wish to be worked on, and its answer."""

from dataclasses import dataclass
from typing import Literal

from gateway.admission.brownout import BrownoutBounds
from gateway.admission.cost import Cost

Reason = Literal["queue_full", "displaced", "deadline", "expired", "draining", "gone"]


@dataclass(frozen=True, slots=True)
class Ask:
    """A wish to be worked on.

    Attributes:
        ticket: Names the request here, unlike any other.
        gateway: Which gateway holds it.
        tenant: Who asks.
        cost: What it is expected to take.
        deadline: Unix time in seconds after which nobody waits for the answer.
        needs_s: Seconds that it takes at least once it is worked on.
    """

    ticket: str
    gateway: str
    tenant: str
    cost: Cost
    deadline: float
    needs_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to work.

    Attributes:
        level: Of brown-out, at this moment.
        brownout: What the level means.
    """

    level: int
    brownout: BrownoutBounds


@dataclass(frozen=True, slots=True)
class Refusal:
    """No.

    Attributes:
        reason: Which rule said so.
        message: For the client, with the value and the limit.
        retry_after_s: Seconds after which there may be room.
        closed_s: Seconds until the next request is likely to leave, with a full queue.
    """

    reason: Reason
    message: str
    retry_after_s: float
    closed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DeskState:
    """What the desk sees.

    Attributes:
        in_work: Requests that are worked on.
        waiting: Requests in the queue.
        level: Of brown-out.
        is_draining: Whether new work is refused for good.
        num_gateways: Gateways that were heard of lately.
    """

    in_work: int
    waiting: int
    level: int
    is_draining: bool
    num_gateways: int = 1
