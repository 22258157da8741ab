from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qzoom.data.record import PictureFile, Record
from qzoom.model.random_checkpoint import write_random_checkpoint

FAMILIES = ("qwen2_5_vl", "qwen3_vl", "llava")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """A tiny random base model of each family."""
    folders = {}
    for family in FAMILIES:
        folder = tmp_path_factory.mktemp(family)
        limits = {} if family == "llava" else {"coarse_min_tokens": 4, "coarse_max_tokens": 16}
        limits |= {} if family == "llava" else {"roi_min_tokens": 4, "roi_max_tokens": 16}
        write_random_checkpoint(folder, family, has_gate=False, has_rpn=False, **limits)
        folders[family] = folder
    return folders


@pytest.fixture(scope="session")
def records(tmp_path_factory) -> list[Record]:
    """Seven questions about three pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    found = []
    for number, (size, asked) in enumerate(((3, 3), (2, 2), (4, 2))):
        path = folder / f"{number}.png"
        pixels = draw.integers(0, 255, (40 * size, 50 * size, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        for question in range(asked):
            text = f"What is number {question} of {'x' * question}?"
            found.append(
                Record(f"{number}-{question}", PictureFile(path), text, (f"answer {question}",))
            )
    return found
