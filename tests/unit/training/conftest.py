import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qzoom.data.record import PictureFile, Record
from qzoom.model.random_checkpoint import write_random_checkpoint
from tests.unit.training.tiny import recipe
from training.labels.jobs import RegionLabelJob, run_here

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


@pytest.fixture(scope="session")
def data(records) -> str:
    file = records[0].picture.path.parent / "data.jsonl"
    lines = [
        {"id": r.id, "image": r.picture.path.name, "question": r.question, "answer": r.answers[0]}
        for r in records
    ]
    # A dialogue: its second turn continues the first.
    lines.append({**lines[0], "id": "turn", "question": "And?"})
    lines[-1]["history"] = [[lines[0]["question"], lines[0]["answer"]]]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(file)


@pytest.fixture(scope="session")
def labels(checkpoints, data, tmp_path_factory) -> dict[str, Path]:
    folders = {}
    for family in FAMILIES:
        folders[family] = tmp_path_factory.mktemp(f"labels-{family}") / "labels"
        job = RegionLabelJob(
            model=checkpoints[family],
            data=data,
            out=folders[family],
            recipe=recipe(family),
            heads={3: [0, 2], 4: []},
        )
        assert list(run_here(job))[-1] == (1, 1)
    return folders
