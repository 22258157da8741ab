import dataclasses
import json

import pytest

from qzoom.model.config import QZoomConfig


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "llava"])
def test_every_preset_survives_json(preset, family):
    config = QZoomConfig.preset(preset, family, split_layer=4)
    assert QZoomConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_paper_preset_by_hand():
    config = QZoomConfig.preset("paper", "qwen2_5_vl", split_layer=18)
    assert (config.split_layer, config.gate_depth, config.rpn_depth) == (18, 3, 3)
    assert (config.rpn_rope, config.rpn_scale, config.rpn_multi_head) == (True, True, True)
    assert (config.sink_mask, config.roi_positions, config.temporal_shift) == (
        "none",
        "eq15",
        "min",
    )
    assert config == QZoomConfig.preset("paper", "qwen3_vl", split_layer=18)


def test_the_released_presets_by_hand():
    qwen2, qwen3, llava = (
        QZoomConfig.preset("released", family, split_layer=18)
        for family in ("qwen2_5_vl", "qwen3_vl", "llava")
    )
    assert (qwen2.sink_mask, qwen3.sink_mask, llava.sink_mask) == ("corner", "first_token", "none")
    assert (qwen2.tau_gate, qwen2.tau_roi, llava.tau_roi) == (0.1, 0.1, 0.15)
    assert (qwen2.temporal_shift, qwen2.roi_positions) == ("max_plus_2", "sequential")
    assert qwen2.fetch_resize
    assert (llava.has_gate, llava.rpn_rope, llava.rpn_extra_norm) == (False, False, True)
    assert (llava.region_rule, llava.token_filter, llava.crop_resize) == (
        "components",
        "mask",
        "squash",
    )


def test_llava_has_a_gate_in_the_paper_but_no_delimiters():
    config = QZoomConfig.preset("paper", "llava", split_layer=15)
    assert config.has_gate
    assert not config.roi_delimiters


def test_an_unknown_key_is_refused_by_name():
    with pytest.raises(ValueError, match="tau_gatee"):
        QZoomConfig.from_dict({"split_layer": 3, "tau_gatee": 0.5})


def test_the_split_must_be_given():
    with pytest.raises(ValueError, match="split_layer"):
        QZoomConfig.from_dict({"tau_gate": 0.5})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("split_layer", 0),
        ("split_layer", "3"),
        ("has_gate", "false"),
        ("has_gate", 1),
        ("tau_gate", 1.5),
        ("tau_gate", float("nan")),
        ("tau_gate", True),
        ("tau_roi", 0.0),
        ("tau_roi", None),
        ("sink_mask", "corners"),
        ("roi_margin_cells", -1.0),
        ("roi_margin_cells", float("inf")),
        ("min_side_px", 2.5),
        ("coarse_min_tokens", 1000),
        ("roi_max_tokens", 1),
        ("default_system", 7),
    ],
)
def test_a_bad_value_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name.removesuffix("_max_tokens")):
        QZoomConfig.from_dict({"split_layer": 3, name: value})


def test_whole_numbers_are_accepted_for_fractions():
    assert QZoomConfig.from_dict({"split_layer": 3, "tau_gate": 1}).tau_gate == 1


def test_the_decision_record_names_every_field_that_presets_set(project_root):
    text = (project_root / "docs/decisions/0002-paper-versus-released.md").read_text()
    structural = {"split_layer", "gate_depth", "rpn_depth", "has_rpn"}
    names = {field.name for field in dataclasses.fields(QZoomConfig)} - structural
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
    assert text.count("\n| ") == 33
