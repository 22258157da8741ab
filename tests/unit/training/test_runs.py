"""Short runs of every stage: reproducible, resumable, exportable."""

import dataclasses
import json

import pytest
import torch
import yaml
from transformers import AutoImageProcessor, AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from typer.testing import CliRunner

from cli.train import app as train_app
from qzoom.contracts.calibration import CALIBRATION_FILE
from qzoom.model.loading import open_checkpoint
from training.base import BaseTrainer
from training.export import export_base
from training.model_config import ModelSize
from training.recipe import BaseRecipe, Phase, Recipe, StagePlan

STEPS = 4


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    phases = [
        Phase("look", 0.25, 0.002, 0.002, {"item": 1.0}, aux_weight=1.0, answers=False),
        Phase(
            "serve",
            0.75,
            0.002,
            0.0,
            {"item": 1.0, "coarse": 1.0, "zoom": 1.0},
            aux_weight=0.3,
            pages=1,
            pointing_weight=0.5,
            place_weight=0.2,
        ),
    ]
    base = BaseRecipe(
        phases,
        clock="steps",
        steps=STEPS,
        batch={"item": 2, "coarse": 2, "zoom": 1},
        validation_pictures=4,
    )
    # A model of four steps is always wrong, so its heads are named and its labels naive.
    stages = StagePlan(
        changes=[
            "num_layers=4",
            "method.split_layer=2",
            "region_labels.max_new_tokens=3",
            "region_labels.keep=all",
            "rpn.steps=2",
            "gate_labels.rule=naive",
            "gate_labels.budgets=[36, 64]",
            "gate_labels.draw_budgets=null",
            "gate_labels.max_new_tokens=3",
            "gate.steps=2",
        ],
        heads="2:*",
        rpn_data="builtin:train?seed=102&count=6",
        gate_data="builtin:train?seed=103&count=6",
    )
    size = ModelSize(num_text_layers=4, hidden_size=64, intermediate_size=96, num_heads=2)
    return Recipe("tiny", base, stages, size=size)


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    """A finished base."""
    folder = tmp_path_factory.mktemp("run")
    BaseTrainer(recipe, folder / "base").run()
    return folder


def test_one_command_makes_a_model_and_goes_on_after_a_stop(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("cli.train.CALIBRATION_QUESTIONS", 10)
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(recipe)))))
    out = tmp_path / "run"
    train = ["all", "--recipe", str(file), "--out", str(out)]
    for extra in ([], ["--resume"]):
        done = CliRunner().invoke(train_app, [*train, *extra])
        assert done.exit_code == 0, done.output
    Qwen2_5_VLForConditionalGeneration.from_pretrained(out / "model")
    method = open_checkpoint(out / "model").qzoom
    assert method.has_rpn
    assert method.has_gate
    assert method.split_layer == 2
    assert (out / "model" / CALIBRATION_FILE).is_file()


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
    export_base(recipe, run / "base", tmp_path)
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


def test_a_missing_base_is_named(recipe, tmp_path):
    with pytest.raises(ValueError, match="holds no checkpoint"):
        export_base(recipe, tmp_path, tmp_path / "out")
