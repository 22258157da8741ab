from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def project_root():
    return Path(__file__).parents[3]


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)
