"""A real decoder with random weights, and states that it can resume from."""

import numpy as np
import pytest
import torch

from qzoom.contracts.conversation import single_question
from qzoom.model.pipeline import Pipeline
from qzoom.model.prefill import PrefillInput
from qzoom.model.random_checkpoint import write_random_checkpoint

BUDGET = {"coarse_min_tokens": 4, "coarse_max_tokens": 16}


@pytest.fixture(scope="session")
def small_pipeline(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("services") / "random"
    write_random_checkpoint(folder, "qwen2_5_vl", **BUDGET)
    return Pipeline.open(folder)


@pytest.fixture(scope="session")
def prefilled(small_pipeline):
    """Prefill a question: `prefilled("What?")` -> state."""
    picture = np.zeros((56, 56, 3), np.uint8)

    def run(question):
        encoder, gate = small_pipeline.encoder, small_pipeline.gate
        (visual,) = encoder.encode([encoder.prepare_coarse(picture)])
        prompt = gate.tokenize(single_question(question), [visual.grid], [(56, 56)])
        return gate.run([PrefillInput(prompt, [visual])])[0].state

    return run
