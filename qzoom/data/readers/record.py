"""One question over one or more pictures, wherever it came from."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

from qzoom.contracts.conversation import Conversation, Text

FloatBox = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels of the source picture."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A picture on disk."""

    path: Path

    def encoded(self) -> bytes:
        """Return the file as it is."""
        return self.path.read_bytes()

    def open(self) -> Image.Image:
        """Decode, upright and RGB."""
        with Image.open(self.path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")


@dataclass(frozen=True, slots=True)
class ImageBytes:
    """A picture's file held inside another file."""

    data: bytes

    def encoded(self) -> bytes:
        """Return the file as it is."""
        return self.data

    def open(self) -> Image.Image:
        """Decode, upright and RGB."""
        with Image.open(BytesIO(self.data)) as image:
            return ImageOps.exif_transpose(image).convert("RGB")


@dataclass(frozen=True, slots=True)
class DrawnImage:
    """A picture that is drawn when it is needed."""

    draw: Callable[[], Image.Image]

    def encoded(self) -> bytes:
        """Return it as a PNG file."""
        buffer = BytesIO()
        self.open().save(buffer, "PNG")
        return buffer.getvalue()

    def open(self) -> Image.Image:
        """Draw it, RGB."""
        return self.draw().convert("RGB")


RecordImage = ImageFile | ImageBytes | DrawnImage


@dataclass(frozen=True, slots=True)
class Record:
    """A question whose right answers are known.

    Attributes:
        id: Unique within its data set.
        images: Pictures in the order that the conversation refers to them.
        conversation: All turns up to the question; the last one is the user's.
        answers: Answers that count as right; empty where none is known.
        group: What the figures are split by, such as "detail" or a category of the benchmark.
        domain: Family of benchmarks that it belongs to, such as "Doc/OCR"; "" without one.
        needs_detail: Whether the coarse picture cannot show the answer; None if unknown.
        evidence_px: Box that decides the answer, for measuring only; None if unknown.
        choices: Texts of the options of a multiple-choice question, in order.
    """

    id: str
    images: tuple[RecordImage, ...]
    conversation: Conversation
    answers: tuple[str, ...] = ()
    group: str = "all"
    domain: str = ""
    needs_detail: bool | None = None
    evidence_px: FloatBox | None = None
    choices: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """Text of the last turn."""
        parts = self.conversation[-1].parts
        return "".join(part.text for part in parts if isinstance(part, Text))
