"""What is asked under load? Synthetic pictures with questions whose answers are known."""

import io
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.clients import Item
from qzoom.data.dataset import example

SEED = 1
"""Number of the data set within the test split; evaluation reports on number 0."""

Method = dict[str, Any]


def mixed_items(
    count: int, *, per_picture: int, methods: Sequence[Method] = ({},), max_tokens: int = 16
) -> list[Item]:
    """Draw questions over pictures of several sizes and kinds.

    Args:
        count: Questions in all.
        per_picture: Questions about each picture; 1 makes every picture a new one.
        methods: `qzoom` objects, given to the questions in turn.
        max_tokens: Most tokens of each answer.

    Returns:
        items: The questions about one picture follow each other.
    """
    turns = itertools.cycle(methods)
    drawn: list[Item] = []
    for image, questions in _pictures():
        file = _png(image, len(drawn))
        # A picture has up to eight questions; where more are wanted, they are asked again.
        for text, truth in itertools.islice(itertools.cycle(questions), per_picture):
            drawn.append(Item(file, text, truth, next(turns), max_tokens))
        if len(drawn) >= count:
            return drawn[:count]
    raise AssertionError("pictures never end")


def _pictures(distinct: int = 24) -> Iterator[tuple[Image.Image, list[tuple[str, str]]]]:
    """Draw some scenes, then the same ones again; `_png` tells them apart."""
    kept = []
    for index in range(distinct):
        _, image, questions = example("test", SEED, index)
        kept.append((image.convert("RGB"), [(q.text, q.answer) for q in questions]))
        yield kept[-1]
    while True:
        yield from kept


def _png(image: Image.Image, number: int) -> bytes:
    """Encode a picture, and mark it, so that no cache takes it for an earlier one."""
    pixels = np.array(image)
    pixels[0, :4] = [(number >> shift) & 0xFF for shift in (0, 8, 16)]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
