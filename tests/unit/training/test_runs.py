"""Short runs of every stage: reproducible, resumable, exportable."""

import dataclasses
import json

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from typer.testing import CliRunner

from cli.train import app as train_app
from qzoom.model.config import QZoomConfig
from training.base import BaseTrainer
from training.export import export_model
from training.gate import GateTrainer
from training.model_config import ModelSize
from training.recipe import BaseRecipe, BranchRecipe, Phase, Recipe
from training.report import measure_run
from training.rpn import RpnTrainer

STEPS = 4


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    phases = [
        Phase("look", 0.25, 0.002, 0.002, {"item": 1.0}, aux_weight=1.0, answers=False),
        Phase("serve", 0.75, 0.002, 0.0, {"item": 1.0, "coarse": 1.0, "zoom": 1.0}, aux_weight=0.3),
    ]
    base = BaseRecipe(
        phases,
        clock="steps",
        steps=STEPS,
        batch={"item": 2, "coarse": 2, "zoom": 1},
        validation_pictures=4,
    )
    branch = BranchRecipe(steps=2, batch=2)
    size = ModelSize(num_text_layers=4, hidden_size=64, intermediate_size=96, num_heads=2)
    return Recipe("tiny", base, branch, branch, size=size, split_layer=2, branch_depth=2)


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    """A finished run of all stages."""
    folder = tmp_path_factory.mktemp("run")
    BaseTrainer(recipe, folder / "base").run()
    for trainer in (RpnTrainer, GateTrainer):
        stage = trainer(recipe, folder / "base", folder / trainer.name)
        stage.validate = lambda: {}  # 240 pictures are for real runs
        stage.run()
    return folder


def test_one_command_runs_every_stage_and_goes_on_after_a_stop(recipe, tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(recipe)))))
    out = tmp_path / "run"
    train = ["all", "--recipe", str(file), "--out", str(out)]
    for extra in ([], ["--resume"]):
        done = CliRunner().invoke(train_app, [*train, *extra])
        assert done.exit_code == 0, done.output
    Qwen2_5_VLForConditionalGeneration.from_pretrained(out / "model")
    assert (out / "model" / "qzoom.safetensors").is_file()


def test_a_resumed_run_ends_with_the_same_weights(recipe, run, tmp_path):
    """Stopped in the middle and gone on with, the loss curve is the same."""
    first = BaseTrainer(recipe, tmp_path)
    for _ in range(2):
        phase, lr = first._schedule(first.clock.progress(first.step))
        for optimizer in first.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        first.train_step(first._choose_mode(phase), phase)
        first.step += 1
    first.save()
    second = BaseTrainer(recipe, tmp_path)
    assert second.resume()
    second.run()
    whole = torch.load(run / "base/state.pt")["model"]
    for name, value in second.model.state_dict().items():
        torch.testing.assert_close(value, whole[name], rtol=0, atol=0)


def test_logs_and_recipe_are_kept(run, recipe):
    assert json.loads((run / "base/recipe.json").read_text())["name"] == recipe.name
    assert (run / "base/validation.csv").read_text().startswith("step,s,")


def test_export_opens_everywhere(recipe, run, tmp_path):
    export_model(recipe, run, tmp_path)
    model, info = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    trained = torch.load(run / "base/state.pt")["model"]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, trained[name])
    AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    assert AutoTokenizer.from_pretrained(tmp_path).tokenize("4071") == ["4", "0", "7", "1"]
    config = json.loads((tmp_path / "config.json").read_text())
    assert QZoomConfig.from_dict(config["qzoom"]).split_layer == recipe.split_layer
    branches = load_file(tmp_path / "qzoom.safetensors")
    assert "qzoom.gate.head.weight" in branches
    assert "qzoom.rpn.layers.1.self_attn.q_proj.weight" in branches


def test_all_routes_are_measured(recipe, run):
    lines = measure_run(recipe, run, pictures=2, seed=0)
    assert lines[0].split()[1:4] == ["n", "direct", "oracle"]
    stored = json.loads((run / "measure.json").read_text())
    assert stored["figures"]["all"]["n"] > 0


def test_stages_name_what_is_missing(recipe, tmp_path):
    with pytest.raises(ValueError, match="no base checkpoint"):
        RpnTrainer(recipe, tmp_path, tmp_path)
    changed = dataclasses.replace(recipe, name="other")
    with pytest.raises(ValueError, match="no base checkpoint"):
        export_model(changed, tmp_path, tmp_path / "out")
