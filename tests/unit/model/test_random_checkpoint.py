"""Random checkpoints of any size answer, zoom and differ."""

import numpy as np
import pytest
import torch

from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.model.pipeline import Pipeline
from qzoom.model.random_checkpoint import ModelSize, random_model, write_random_checkpoint

PICTURE = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
SMALL = {"coarse_min_tokens": 16, "coarse_max_tokens": 64, "roi_min_tokens": 16}


@pytest.mark.parametrize(
    "size",
    [
        ModelSize(branch_depth=1),
        ModelSize(num_layers=5, split_layer=2, branch_depth=3),
        ModelSize(hidden_size=128, num_heads=8, num_kv_heads=8, vision_depth=4),
    ],
    ids=["one branch layer", "branch up to the top", "wider, without groups"],
)
def test_every_size_zooms(family, size, tmp_path):
    budget = {} if family == "llava" else SMALL
    write_random_checkpoint(tmp_path, family, size=size, **budget)
    pipeline = Pipeline.open(tmp_path)
    question, sampling = single_question("what is the code?"), Sampling(max_tokens=3)
    seen = pipeline.answer(question, [PICTURE], Options(route="zoom", explain=True), sampling)
    assert seen.heatmap is not None
    tau = float(np.quantile(seen.heatmap, 0.9))
    answer = pipeline.answer(question, [PICTURE], Options(route="zoom", tau_roi=tau), sampling)

    assert answer.route == "zoom"
    assert answer.num_roi_tokens >= 16
    assert len(answer.ids) >= 1


def test_gate_and_map_are_worth_testing_with(family, tmp_path):
    budget = {} if family == "llava" else SMALL
    write_random_checkpoint(tmp_path, family, **budget)
    pipeline = Pipeline.open(tmp_path)
    answers = [
        pipeline.answer(
            single_question(question),
            [PICTURE],
            Options(tau_gate=0.0, explain=True),
            Sampling(max_tokens=1),
        )
        for question in ("what is the code?", "red sign", "0123456789")
    ]
    scores = [answer.p_refine for answer in answers]
    assert all(0.02 < score < 0.98 for score in scores)
    assert max(scores) - min(scores) > 0.01
    assert all(np.ptp(answer.heatmap) > 0.1 for answer in answers)


def test_tensors_are_exact_in_bfloat16(family):
    model = random_model(family)
    for name, shape in list(model.shapes().items())[::7]:
        tensor = model.tensor(name, shape)
        assert torch.equal(tensor, tensor.to(torch.bfloat16).float()), name
        assert tensor.std() > 0 or tensor.numel() == 1, name
