"""Two Ray workers give what one worker gives, through the command line."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.unit.training.tiny import losses, recipe

ROOT = Path(__file__).parents[3]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not importlib.util.find_spec("pandas"), reason="needs the extra train-cluster"
    ),
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPU cores"),
]


def qzoom(*arguments):
    code = "from cli.main import app; app()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=280,
        check=False,
        capture_output=True,
        text=True,
    )


def test_two_workers_do_what_one_does(checkpoints, data, tmp_path):
    plan = recipe("qwen2_5_vl", "gate_labels.rule=naive")
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(plan.model_dump(mode="json")))
    model = checkpoints["qwen2_5_vl"]
    for number in (1, 2):
        folder = tmp_path / str(number)
        options = ("--recipe", file, "--num-workers", number)
        made = qzoom("label", "gate", model, data, folder / "labels", *options)
        assert made.returncode == 0, made.stderr
        trained = qzoom("train", "gate", model, folder / "labels", folder / "run", *options)
        assert trained.returncode == 0, trained.stderr
    shards = [sorted((tmp_path / n / "labels").glob("shard-*")) for n in "12"]
    assert [p.name for p in shards[0]] == [p.name for p in shards[1]]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*shards, strict=True))
    one, two = (losses(tmp_path / n / "run") for n in "12")
    np.testing.assert_allclose(one, two, rtol=1e-4)
    again = qzoom("train", "gate", model, tmp_path / "2/labels", tmp_path / "2/run", *options)
    assert again.returncode == 2
    assert "--resume" in again.stderr
    # Ray would wait for ever for cores that nobody has.
    shutil.rmtree(tmp_path / "2" / "labels")
    crowd = ("--recipe", file, "--num-workers", 4000)
    refused = qzoom("label", "gate", model, data, tmp_path / "2/labels", *crowd)
    assert refused.returncode != 0
    assert "4000 are needed" in refused.stderr
