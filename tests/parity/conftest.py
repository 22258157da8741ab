"""Random checkpoints of each family, their stages, and pictures; all float32 on the CPU."""

import numpy as np
import pytest
import torch

from qzoom.contracts.conversation import Picture, Text, Turn
from qzoom.model.loading import open_checkpoint
from qzoom.model.pipeline import Pipeline
from qzoom.model.random_checkpoint import write_random_checkpoint

FAMILIES = ("qwen2_5_vl", "qwen3_vl", "llava")
SMALL_BUDGET = {
    "coarse_min_tokens": 16,
    "coarse_max_tokens": 64,
    "roi_min_tokens": 16,
    "roi_max_tokens": 48,
}


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory):
    """Write a random checkpoint once: `checkpoint_folder(family, preset, **fields)`."""
    folders = {}

    def write(family, preset="paper", **fields):
        key = (family, preset, *sorted(fields.items()))
        if key not in folders:
            folder = tmp_path_factory.mktemp(f"{family}-{preset}")
            budget = {} if family == "llava" else SMALL_BUDGET
            write_random_checkpoint(folder, family, preset=preset, **{**budget, **fields})
            folders[key] = folder
        return folders[key]

    return write


@pytest.fixture(scope="session")
def pipeline_of(checkpoint_folder):
    """Load a random pipeline once: `pipeline_of(family, preset)`."""
    pipelines = {}

    def load(family, preset="paper"):
        if (family, preset) not in pipelines:
            pipelines[family, preset] = Pipeline.open(checkpoint_folder(family, preset))
        return pipelines[family, preset]

    return load


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def pipeline(family, pipeline_of):
    return pipeline_of(family)


@pytest.fixture
def checkpoint(family, checkpoint_folder):
    return open_checkpoint(checkpoint_folder(family))


@pytest.fixture
def picture():
    """Make a picture of coloured blocks: `picture(width, height, seed)`."""

    def draw(width, height, seed=0):
        blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
        return blocks[rows][:, columns]

    return draw


@pytest.fixture
def two_turns():
    """Two pictures in two turns, the question at the end."""
    return (
        Turn("user", (Picture(0), Text("What is this?"))),
        Turn("assistant", (Text("A red box."),)),
        Turn("user", (Text("And here, "), Picture(1), Text("what is written on it?"))),
    )
