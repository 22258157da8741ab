"""Which questions does the demo ask? Drawn on the spot, from seeds that no training may use."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from qzoom.data.questions import Kind

QUESTIONS: tuple[tuple[int, "Kind", bool], ...] = (
    (5, "what", False),
    (5, "code", True),
    (10, "code", False),
    (10, "code", True),
)
"""(number of the picture in the test split, template, whether small print must be read).

`scripts/demo_candidates.py` lists those that a model answers. After a change, run
`scripts/web_examples.py`, which draws the playground's pictures anew.
"""


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
    """Draw the pictures and ask the questions.

    Raises:
        LookupError: If a picture has no such question.
    """
    # Here, because fonts are needed.
    from qzoom.data.questions import sample_question
    from qzoom.data.render import render
    from qzoom.data.scene import sample_scene
    from qzoom.data.splits import scene_seed

    for number, kind, needs_detail in QUESTIONS:
        scene = sample_scene(scene_seed("test", number))
        rng = random.Random(number)
        asked = [sample_question(rng, scene, kind, item) for item in scene.items]
        chosen = [q for q in asked if q is not None and q.needs_detail is needs_detail]
        if not chosen:
            raise LookupError(f"picture {number} has no {kind} question with {needs_detail=}")
        name = f"picture {number}, {'small print' if needs_detail else 'at a glance'}"
        yield Example(name, render(scene), chosen[0].text, chosen[0].answer, needs_detail)
