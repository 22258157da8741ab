"""Records of the built-in generator, drawn when they are needed: nothing is written to disk."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qzoom.data.dataset import example
from qzoom.data.record import Record
from qzoom.data.splits import Split


@dataclass(frozen=True, slots=True)
class DrawnPicture:
    """Picture `index` of a generated data set."""

    split: Split
    seed: int
    index: int

    @property
    def key(self) -> str:
        """Split, seed and index."""
        return f"builtin:{self.split}:{self.seed}:{self.index}"

    def load(self) -> NDArray[np.uint8]:
        """Draw it (see `PictureSource`)."""
        _, image, _ = example(self.split, self.seed, self.index)
        return np.asarray(image.convert("RGB"))


def builtin_records(split: Split, seed: int, count: int) -> Iterator[Record]:
    """Questions about `count` generated pictures, the same ones as `qzoom data make` writes."""
    for index in range(count):
        picture = DrawnPicture(split, seed, index)
        _, _, questions = example(split, seed, index)
        for number, question in enumerate(questions):
            yield Record(
                id=f"{picture.key}:{number}",
                picture=picture,
                question=question.text,
                answers=(question.answer,),
                group=question.group,
                kind=question.kind,
                needs_detail=question.needs_detail,
                evidence_px=question.evidence_px,
            )
