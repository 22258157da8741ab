"""Data sets on disk: pictures, and one JSON line per question.

OUT/images/000000.png ...
OUT/data.jsonl   {"image", "question", "answer", "kind", "group", "needs_detail",
                  "evidence_px", "split", "scene_seed"}
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from PIL import Image

from qzoom.data.questions import LOOKING, READING, Kind, Question, sample_question
from qzoom.data.render import render
from qzoom.data.scene import Scene, sample_scene
from qzoom.data.splits import Split, scene_seed

ImageFormat = Literal["png", "jpeg"]

SEED_STRIDE = 1 << 20
"""Pictures that one seed can name; the next seed starts behind them."""

DATA_FILE = "data.jsonl"


def example(split: Split, seed: int, index: int) -> tuple[Scene, Image.Image, list[Question]]:
    """Picture `index` of a data set, with one to eight questions.

    Args:
        split: Seed range.
        seed: Number of the data set within the split.
        index: Number of the picture, below `SEED_STRIDE`.
    """
    if not 0 <= index < SEED_STRIDE:
        raise ValueError(f"index is {index}, must be in [0, {SEED_STRIDE})")
    number = scene_seed(split, seed * SEED_STRIDE + index)
    scene = sample_scene(number)
    rng = random.Random(number ^ 0xA5C)
    kinds: list[Kind] = [*READING[:1] * 2, *READING[1:], *rng.sample(LOOKING, 3)]
    asked = [sample_question(rng, scene, kind) for kind in kinds]
    return scene, render(scene), [question for question in asked if question is not None]


def write_dataset(
    folder: Path, split: Split, seed: int, count: int, image_format: ImageFormat = "png"
) -> Iterator[int]:
    """Write a data set picture by picture.

    Args:
        folder: Created if needed; an existing data set is replaced line by line.
        split: Seed range.
        seed: Number of the data set within the split.
        count: Pictures.
        image_format: "jpeg" saves at quality 92.

    Yields:
        Number of pictures written so far, for progress.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    suffix = "jpg" if image_format == "jpeg" else "png"
    with (folder / DATA_FILE).open("w", encoding="utf-8") as file:
        for index in range(count):
            scene, image, questions = example(split, seed, index)
            name = f"images/{index:06d}.{suffix}"
            image.save(folder / name, quality=92)
            for question in questions:
                record = {
                    "image": name,
                    "question": question.text,
                    "answer": question.answer,
                    "kind": question.kind,
                    "group": question.group,
                    "needs_detail": question.needs_detail,
                    "evidence_px": question.evidence_px,
                    "split": split,
                    "scene_seed": scene.seed,
                }
                file.write(json.dumps(record) + "\n")
            yield index + 1
