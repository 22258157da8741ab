"""What did a stage answer? A small message, and buffers that nobody opens here."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gateway.remote import Reference

Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Reply(Generic[Message]):
    """What a stage answered.

    Attributes:
        message: The small reply.
        buffers: References of the buffers that its headers describe; `StageCalls` empties it.
    """

    message: Message
    buffers: list[Reference] = field(default_factory=list)
