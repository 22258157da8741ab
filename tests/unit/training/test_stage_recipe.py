import json

import pytest

from qzoom.errors import InvalidRequest, NotFound
from qzoom.model.random_checkpoint import write_random_checkpoint
from training.stages.recipe import load_stage_recipe, stage_recipes
from training.stages.setup import base_revision, open_for_stage


@pytest.mark.parametrize("name", stage_recipes())
def test_recipes_load(name):
    recipe = load_stage_recipe(name)
    assert recipe.name == name
    assert recipe.method["split_layer"] < recipe.num_layers


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rpn.batsh=3", "rpn.batsh"),
        ("rpn.lr=fast", "rpn.lr"),
        ("region_labels.rules.tau_fg=5", "tau_fg is 5"),
        ("region_labels.rules.tau=5", "tau"),
        ("rpn.steps", "KEY=VALUE"),
        ("name.steps=1", "there is no"),
    ],
)
def test_a_bad_value_is_named(change, message):
    with pytest.raises(InvalidRequest, match=message):
        load_stage_recipe("built-in-stages", [change])


def test_an_unknown_recipe_lists_the_known():
    with pytest.raises(NotFound, match="built-in-stages"):
        load_stage_recipe("nothing")


def tiny(*changes):
    values = ["family=qwen2_5_vl", "num_layers=6", "method.split_layer=3"]
    values += ["method.coarse_max_tokens=16", "method.roi_max_tokens=16"]
    return load_stage_recipe("built-in-stages", [*values, *changes])


def test_a_fitting_checkpoint_opens(checkpoints):
    checkpoint = open_for_stage(checkpoints["qwen2_5_vl"], tiny())
    assert checkpoint.qzoom.coarse_max_tokens == 16
    assert len(base_revision(checkpoint)) == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("num_layers=8", r"num_layers is 6 .* but 8"),
        ("method.split_layer=2", r"split_layer is 3 .* but 2"),
        ("method.coarse_max_tokens=99", r"coarse_max_tokens is 16 .* but 99"),
    ],
)
def test_a_mismatch_names_the_field_and_both_values(checkpoints, change, message):
    with pytest.raises(InvalidRequest, match=message):
        open_for_stage(checkpoints["qwen2_5_vl"], tiny(change))


def test_another_family_is_refused(checkpoints):
    with pytest.raises(InvalidRequest, match=r"family is 'qwen3_vl' .* but 'qwen2_5_vl'"):
        open_for_stage(checkpoints["qwen3_vl"], tiny())


def test_what_is_the_rpn_s_is_the_recipe_s_until_there_is_one(checkpoints, tmp_path):
    """A finished model keeps what its branches were made with, stated or not."""
    relative = tiny("method.roi_threshold=relative")
    assert open_for_stage(checkpoints["qwen2_5_vl"], relative).qzoom.roi_threshold == "relative"
    method = {k: v for k, v in relative.method.items() if k != "split_layer"}
    write_random_checkpoint(tmp_path, "qwen2_5_vl", **{**method, "roi_threshold": "absolute"})
    with pytest.raises(InvalidRequest, match=r"roi_threshold is 'absolute' .* but 'relative'"):
        open_for_stage(tmp_path, relative)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["qzoom"]["roi_threshold"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert open_for_stage(tmp_path, relative).qzoom.roi_threshold == "absolute"
