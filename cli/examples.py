"""Which questions does the demo ask? Drawn on the spot, from seeds that no training may use."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

PICTURES = (5, 4)
"""Numbers of the pictures in the test split; each has codes in large and in small print."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question whose answer the generator knows.

    Attributes:
        name: For tables and file names.
        picture: What is asked about.
        question: What is asked.
        expected: The right answer.
        needs_detail: Whether the coarse picture cannot show it, so that the gate should zoom.
    """

    name: str
    picture: Image.Image
    question: str
    expected: str
    needs_detail: bool

    @property
    def route(self) -> str:
        """The route that the gate should take."""
        return "zoom" if self.needs_detail else "direct"

    def file(self) -> bytes:
        """The picture as a PNG file."""
        buffer = BytesIO()
        self.picture.save(buffer, "PNG")
        return buffer.getvalue()


def examples() -> Iterator[Example]:
    """Draw the pictures; ask of each for a code in large print and for one in small print.

    Both questions come from one template, so that their wording tells nothing about the route.
    """
    # Here, because fonts are needed.
    from qzoom.data.questions import sample_question
    from qzoom.data.render import render
    from qzoom.data.scene import sample_scene
    from qzoom.data.splits import scene_seed

    for order, number in enumerate(PICTURES, start=1):
        scene = sample_scene(scene_seed("test", number))
        picture, rng = render(scene), random.Random(number)
        asked = [sample_question(rng, scene, "code", item) for item in scene.items]
        questions = [question for question in asked if question is not None]
        for needs_detail, size in ((False, "large"), (True, "small")):
            chosen = next(q for q in questions if q.needs_detail is needs_detail)
            name = f"picture {order}, {size} print"
            yield Example(name, picture, chosen.text, chosen.answer, needs_detail)
