"""SIGKILL in the middle of a stage, twice: --resume ends with the same curve and weights."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from qzoom.model.random_checkpoint import write_random_checkpoint
from tests.unit.training.tiny import losses, recipe
from training.labels.jobs import GateLabelJob, HardSampleJob, run_here
from training.labels.shards import LabelFolder
from training.stages.pieces import read_pieces
from training.stages.run import StageRun, train_gate, train_post_sft, train_rpn

ROOT = Path(__file__).parents[3]
STEPS = 40
TRAIN = {"rpn": train_rpn, "gate": train_gate, "post_sft": train_post_sft}
SCRIPT = """
import json, sys
from pathlib import Path
from training.stages.recipe import StageRecipe
from training.stages.run import StageRun, train_{stage}
model, labels, out = json.loads(Path(sys.argv[1]).read_text())
recipe = StageRecipe.model_validate_json(Path(sys.argv[2]).read_text())
train_{stage}(StageRun(model=Path(model), labels=[Path(labels)], out=Path(out), recipe=recipe,
                       resume=True))
"""


def plan_of(stage):
    changes = [f"{stage}.steps={STEPS}", f"{stage}.batch=4"]
    changes += [f"{stage}.checkpoint_minutes=0.0001", "hard_samples.max_new_tokens=4"]
    return recipe("qwen2_5_vl", *changes, "gate_labels.rule=naive")


def prepare(stage, checkpoints, labels, data, folder):
    """Model and labels of a stage."""
    plan, model = plan_of(stage), checkpoints["qwen2_5_vl"]
    if stage == "rpn":
        return model, labels["qwen2_5_vl"]
    if stage == "gate":
        list(run_here(GateLabelJob(model=model, data=data, out=folder / "labels", recipe=plan)))
        return model, folder / "labels"
    method = {k: v for k, v in plan.method.items() if k != "split_layer"}
    model = folder / "model"
    write_random_checkpoint(model, "qwen2_5_vl", **{**method, "has_gate": False, "tau_roi": 0.05})
    list(run_here(HardSampleJob(model=model, data=data, out=folder / "labels", recipe=plan)))
    made = LabelFolder.open(folder / "labels")
    for number, shard in enumerate(list(made.read())):
        # A random model answers nothing right: all questions are called hard.
        hard = [{**r, "base_right": True, "roi_right": False} for r in shard.records]
        made.write(number, dataclasses.replace(shard, records=hard, arrays={}))
    return model, folder / "labels"


@pytest.mark.parametrize(
    "stage",
    ["rpn", pytest.param("gate", marks=pytest.mark.slow),
     pytest.param("post_sft", marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_killed_run_goes_on_along_the_same_curve(stage, checkpoints, labels, data, tmp_path):
    model, made = prepare(stage, checkpoints, labels, data, tmp_path)
    plan = plan_of(stage)
    whole = StageRun(model=model, labels=[made], out=tmp_path / "whole", recipe=plan)
    TRAIN[stage](whole)
    killed = dataclasses.replace(whole, out=tmp_path / "killed", resume=True)
    (tmp_path / "run.json").write_text(json.dumps([str(model), str(made), str(killed.out)]))
    (tmp_path / "recipe.json").write_text(plan.model_dump_json())
    command = [sys.executable, "-c", SCRIPT.format(stage=stage), tmp_path / "run.json"]
    command.append(tmp_path / "recipe.json")
    curve = killed.out / "curve.csv"
    for rows in (8, 20):
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        deadline = time.monotonic() + 200
        while not (curve.is_file() and len(curve.read_text().splitlines()) > rows):
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    TRAIN[stage](killed)
    with curve.open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == list(range(1, STEPS + 1))
    assert losses(killed.out) == losses(whole.out)
    for (name, a), (_, b) in zip(
        read_pieces(killed.out / "part" / "tensors"),
        read_pieces(whole.out / "part" / "tensors"),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)
