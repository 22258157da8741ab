"""Two processes with a real process group train along the curve of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from tests.unit.training.tiny import losses, run_of
from training.stages.pieces import read_pieces
from training.stages.run import train_rpn

ROOT = Path(__file__).parents[3]
SCRIPT = """
import json, sys
from pathlib import Path
from torch import distributed
from training.stages.recipe import StageRecipe
from training.stages.run import StageRun, train_rpn
rank, folder = int(sys.argv[1]), Path(sys.argv[2])
model, labels, out = json.loads((folder / "run.json").read_text())
recipe = StageRecipe.model_validate_json((folder / "recipe.json").read_text())
distributed.init_process_group(
    "gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2
)
train_rpn(StageRun(model=Path(model), labels=[Path(labels)], out=Path(out), recipe=recipe))
distributed.destroy_process_group()
"""


def test_two_processes_train_along_the_curve_of_one(checkpoints, labels, tmp_path):
    one = run_of(checkpoints, labels, "qwen2_5_vl", tmp_path / "one", "rpn.batch=5")
    train_rpn(one)
    two = tmp_path / "two"
    values = [str(one.model), str(one.labels[0]), str(two)]
    (tmp_path / "run.json").write_text(json.dumps(values))
    (tmp_path / "recipe.json").write_text(one.recipe.model_dump_json())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT]
    started = [
        subprocess.Popen([*command, str(rank), tmp_path], cwd=ROOT, env=environment)
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=240) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    np.testing.assert_allclose(losses(two), losses(one.out), rtol=1e-4)
    parts = (dict(read_pieces(folder / "part" / "tensors")) for folder in (one.out, two))
    first, second = parts
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-3, atol=1e-4)
