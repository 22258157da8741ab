"""One question about one picture, as every part of training and evaluation takes it.

Readers make records; nothing that is `for measuring only` may reach a label or a loss.
"""

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qzoom.contracts.conversation import Conversation, Picture, Text, Turn
from qzoom.errors import UnsupportedMedia
from qzoom.rgb import to_rgb, upright

FloatBox = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels of the source picture."""


class PictureSource(Protocol):
    """Where a picture comes from; cheap to keep, decoded when it is needed."""

    @property
    def key(self) -> str:
        """Equal keys are the same picture: questions about it are worked on together."""
        ...

    def load(self) -> NDArray[np.uint8]:
        """Decode the picture: [height, width, 3], RGB.

        Raises:
            QZoomError: If it cannot be decoded.
        """
        ...


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture on disk."""

    path: Path

    @property
    def key(self) -> str:
        """Its path."""
        return str(self.path)

    def load(self) -> NDArray[np.uint8]:
        """Decode the file (see `PictureSource`)."""
        return _decode(self.path, str(self.path))


@dataclass(frozen=True, slots=True)
class PictureBytes:
    """A picture's file that is held inside another file."""

    data: bytes

    @property
    def key(self) -> str:
        """Hash of the bytes."""
        return hashlib.sha256(self.data).hexdigest()

    def load(self) -> NDArray[np.uint8]:
        """Decode the file (see `PictureSource`)."""
        return _decode(BytesIO(self.data), f"a file of {len(self.data)} bytes")


def _decode(file: Path | BytesIO, name: str) -> NDArray[np.uint8]:
    """Decode a file to the pixels that the gateway makes of it."""
    try:
        with Image.open(file) as image:
            return np.asarray(to_rgb(upright(image)))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnsupportedMedia(f"{name} cannot be read as a picture: {error}") from error


@dataclass(frozen=True, slots=True)
class Record:
    """One question.

    Attributes:
        id: Unique in its data set, the same on every reading.
        picture: What it is about.
        question: Its text, as the user would send it.
        answers: Accepted answers, the first one being the one to learn; empty where none is known.
        history: (question, answer) of the earlier turns about the same picture.
        group: What a question needs, or is about, for measuring only.
        kind: Template or type of a question, for measuring only; "" where none is known.
        needs_detail: Whether the coarse picture cannot show the answer, for measuring only.
        evidence_px: (x0, y0, x1, y1) in source pixels of what shows the answer, for measuring only.
        domain: Family of benchmarks that it belongs to, such as "Doc/OCR"; "" without one.
        choices: Texts of the options of a multiple-choice question, in order.
    """

    id: str
    picture: PictureSource
    question: str
    answers: tuple[str, ...] = ()
    history: tuple[tuple[str, str], ...] = ()
    group: str = ""
    kind: str = ""
    needs_detail: bool | None = None
    evidence_px: FloatBox | None = None
    domain: str = ""
    choices: tuple[str, ...] = ()

    def conversation(self, suffix: str = "") -> Conversation:
        """All turns, the picture before the first question.

        Args:
            suffix: Put after every question that does not hold it yet, such as the instruction to
                answer with a single word or phrase.
        """
        turns: list[Turn] = []
        for number, (question, answer) in enumerate((*self.history, (self.question, ""))):
            lead: tuple[Picture, ...] = (Picture(0),) if number == 0 else ()
            text = question if suffix.strip() in question else question + suffix
            turns.append(Turn("user", (*lead, Text(text))))
            if number < len(self.history):
                turns.append(Turn("assistant", (Text(answer),)))
        return tuple(turns)
