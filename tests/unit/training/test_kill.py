"""Training that is killed at any moment goes on as if nothing had been."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import torch
import yaml

from training.base import BaseTrainer
from training.model_config import ModelSize
from training.recipe import BaseRecipe, Phase, Recipe

DEADLINE_S = 240


def test_kill_minus_nine_and_resume_end_with_the_same_weights(tmp_path):
    phases = [Phase("all", 1.0, 0.002, 0.0, {"item": 1.0}, aux_weight=0.3, pointing_weight=0.2)]
    base = BaseRecipe(
        phases, clock="steps", steps=40, batch={"item": 1}, checkpoint_s=0.0, validation_pictures=1
    )
    size = ModelSize(num_text_layers=4, hidden_size=64, intermediate_size=96, num_heads=2)
    recipe = Recipe("killed", base, size=size)
    file = tmp_path / "killed.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(recipe)))))
    out = tmp_path / "run"

    command = [sys.executable, "-c", "from cli.main import app; app()", "train", "base"]
    command += ["--recipe", str(file), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        deadline = time.monotonic() + DEADLINE_S
        while not (out / "base/state.pt").exists() and time.monotonic() < deadline:
            assert process.poll() is None, process.stdout.read().decode()
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    killed_at = torch.load(out / "base/state.pt")["step"]
    assert 0 < killed_at < base.steps, "killed too late to prove anything"

    resumed = BaseTrainer(recipe, out / "base")
    assert resumed.resume()
    resumed.run()
    whole = BaseTrainer(recipe, tmp_path / "whole")
    whole.run()
    expected = whole.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
