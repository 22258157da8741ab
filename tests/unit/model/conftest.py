from pathlib import Path

import pytest
import torch

from qzoom.model.random_checkpoint import write_random_checkpoint


@pytest.fixture(scope="session")
def project_root():
    return Path(__file__).parents[3]


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


FAMILIES = ("qwen2_5_vl", "qwen3_vl", "llava")


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="session")
def random_folder(tmp_path_factory):
    """Write a random checkpoint once: `random_folder(family, layout, **fields)`."""
    folders = {}

    def write(family, layout="own", **fields):
        key = (family, layout, *sorted(fields.items()))
        if key not in folders:
            folder = tmp_path_factory.mktemp(f"{family}-{layout}")
            folders[key] = folder, write_random_checkpoint(folder, family, layout=layout, **fields)
        return folders[key]

    return write
