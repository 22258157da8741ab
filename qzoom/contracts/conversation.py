"""What did the user say? A conversation of turns whose parts are texts and pictures.

Used by the gateway (which builds it from REST or gRPC), by the gate service (which renders the
checkpoint's chat template from it) and by the in-process pipeline.
"""

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text of one turn."""

    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of one turn.

    Attributes:
        index: Position of the pixels in the request's list of images, from 0.
    """

    index: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the conversation, its parts in the order in which they were sent."""

    role: Role
    parts: tuple[Text | Picture, ...]


Conversation = tuple[Turn, ...]


def single_question(question: str) -> Conversation:
    """Build the commonest conversation: one picture, then one question about it."""
    return (Turn("user", (Picture(0), Text(question))),)
