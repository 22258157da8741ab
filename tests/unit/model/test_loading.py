"""Checkpoints of every layout give the same tensors under the same names."""

import json
import re
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from qzoom.model.config import QZoomConfig
from qzoom.model.decoder import Decoder
from qzoom.model.loading import CheckpointError, open_checkpoint
from qzoom.model.loading import weights as weights_module
from qzoom.model.random_checkpoint import random_model, write_random_checkpoint

ALL = ["model", "lm_head", "qzoom"]
EMBEDDINGS = "model.language_model.embed_tokens.weight"


def edit_config(folder, **values):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | values))


def rename_tensors(folder, pattern, replacement):
    path = folder / "model.safetensors"
    tensors = {re.sub(pattern, replacement, name): t for name, t in load_file(path).items()}
    save_file(tensors, path)


@pytest.fixture
def copy_of(random_folder, tmp_path):
    """Copy a random folder to change it: `copy_of(family, layout, **fields)`."""

    def copy(family, layout="released", **fields):
        source, model = random_folder(family, layout, **fields)
        target = tmp_path / f"{family}-{layout}"
        shutil.copytree(source, target)
        return target, model

    return copy


def assert_holds(checkpoint, model, *, is_tied=False):
    """Every tensor has the value that was drawn for its canonical name."""
    shapes = model.shapes()
    tensors = checkpoint.tensors([name for name in ALL if name != "qzoom" or has_branches(model)])
    for name, tensor in tensors.items():
        drawn = EMBEDDINGS if is_tied and name == "lm_head.weight" else name
        assert torch.equal(tensor.float(), model.tensor(drawn, shapes[drawn])), name
    dead = f"qzoom.rpn.layers.{model.qzoom.rpn_depth - 1}."
    scored = {"input_layernorm", "q_proj", "k_proj", "q_norm", "k_norm"}
    expected = {
        name
        for name in shapes
        if not name.startswith(dead) or any(f"{part}." in name for part in scored)
    }
    assert set(tensors) == expected | {"lm_head.weight"}


def has_branches(model):
    return model.qzoom.has_gate or model.qzoom.has_rpn


@pytest.mark.parametrize("layout", ["own", "released"])
def test_both_layouts_hold_the_same_tensors(random_folder, family, layout):
    folder, model = random_folder(family, layout)
    checkpoint = open_checkpoint(folder)

    assert checkpoint.family == family
    assert checkpoint.qzoom == model.qzoom
    assert checkpoint.eos_ids == (model.tokenizer.eos_token_id,)
    assert_holds(checkpoint, model)


@pytest.mark.parametrize("layout", ["own", "released"])
@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_tied_head_is_the_embedding_table(random_folder, family, layout):
    folder, model = random_folder(family, layout, is_tied=True)

    assert_holds(open_checkpoint(folder), model, is_tied=True)


def test_a_stored_head_counts_where_the_configuration_contradicts_itself(copy_of):
    folder, model = copy_of("qwen3_vl")
    nested = json.loads((folder / "config.json").read_text())["text_config"]
    edit_config(
        folder,
        tie_word_embeddings=True,
        text_config=nested | {"tie_word_embeddings": False},
    )

    checkpoint = open_checkpoint(folder)
    assert_holds(checkpoint, model)
    decoder = Decoder.load(checkpoint)
    assert torch.equal(
        decoder.head.weight, checkpoint.tensors(["lm_head"])["lm_head.weight"].float()
    )


@pytest.mark.parametrize("layout", ["own", "released"])
def test_transformers_settings_survive_the_old_spelling(random_folder, family, layout):
    folder, model = random_folder(family, layout)
    found = open_checkpoint(folder).hf_config

    text, expected = found.get_text_config(), model.hf_config.get_text_config()
    rope = {k: v for k, v in text.rope_parameters.items() if k != "type"}
    assert rope == expected.rope_parameters
    for key in ("hidden_size", "num_hidden_layers", "num_key_value_heads", "rms_norm_eps"):
        assert getattr(text, key) == getattr(expected, key), key
    assert found.image_token_id == model.hf_config.image_token_id


def test_newer_names_of_qwen2_5_vl(copy_of):
    folder, model = copy_of("qwen2_5_vl")
    rename_tensors(folder, r"^visual\.", "model.visual.")
    rename_tensors(folder, r"^model\.(?!visual)", "model.language_model.")

    assert_holds(open_checkpoint(folder), model)


def test_shards_are_read_through_their_index(copy_of):
    folder, model = copy_of("qwen3_vl")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_holds(open_checkpoint(folder), model)

    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks model-00002-of-00002\.safetensors"):
        open_checkpoint(folder)


def test_only_the_asked_tensors_are_read(random_folder, monkeypatch):
    folder, _ = random_folder("qwen2_5_vl", "released")
    checkpoint = open_checkpoint(folder)
    read = []

    class Recorder:
        def __init__(self, *args, **kwargs):
            self._file = safe_open(*args, **kwargs)

        def __enter__(self):
            self._open = self._file.__enter__()
            return self

        def __exit__(self, *args):
            return self._file.__exit__(*args)

        def get_tensor(self, name):
            read.append(name)
            return self._open.get_tensor(name)

    monkeypatch.setattr(weights_module, "safe_open", Recorder)
    checkpoint.tensors(["model.language_model.layers.1.", "lm_head.weight"])

    assert {re.sub(r"layers\.1\..*", "layers.1", name) for name in read} == {
        "model.layers.1",
        "lm_head.weight",
    }


def test_prefixes_end_at_a_dot(random_folder):
    folder, _ = random_folder("qwen2_5_vl")
    checkpoint = open_checkpoint(folder)

    with pytest.raises(CheckpointError, match=r"no tensor named model\.language_model\.lay$"):
        checkpoint.tensors(["model.language_model.lay"])


def prune(folder, family, model):
    """Drop what the authors' pruning drops: layers above the branches, for LLaVA the head too."""
    last = model.qzoom.split_layer + model.qzoom.rpn_depth
    path = folder / "model.safetensors"
    kept = {}
    for name, tensor in load_file(path).items():
        layer = re.search(r"model\.(?:language_model\.)?layers\.(\d+)\.", name)
        is_top = family == "llava" and name in {"lm_head.weight", "model.norm.weight"}
        if not is_top and (layer is None or int(layer[1]) < last):
            kept[name] = tensor
    save_file(kept, path)


def test_pruned_checkpoint_is_filled_from_its_base(copy_of, random_folder, family):
    folder, model = copy_of(family)
    prune(folder, family, model)
    with pytest.raises(CheckpointError, match=r"lacks .*layers\.5\..* more tensors.*--base"):
        open_checkpoint(folder)

    base, base_model = random_folder(family, "own", seed=7, has_gate=False, has_rpn=False)
    filled = open_checkpoint(folder, base=base)
    shapes, base_shapes = model.shapes(), base_model.shapes()
    top = "model.language_model.layers.5.mlp.up_proj.weight"
    low = "model.language_model.layers.0.mlp.up_proj.weight"
    tensors = filled.tensors([top, low])
    assert torch.equal(tensors[top].float(), base_model.tensor(top, base_shapes[top]))
    assert torch.equal(tensors[low].float(), model.tensor(low, shapes[low]))
    assert filled.qzoom == model.qzoom
    assert filled.revision not in {open_checkpoint(base).revision, ""}


def test_base_of_another_family_is_refused(copy_of, random_folder):
    folder, model = copy_of("qwen2_5_vl")
    prune(folder, "qwen2_5_vl", model)
    base, _ = random_folder("qwen3_vl")

    with pytest.raises(CheckpointError, match="is a qwen3_vl model"):
        open_checkpoint(folder, base=base)


def test_plain_base_model_never_zooms(random_folder, family):
    folder, model = random_folder(family, "own", has_gate=False, has_rpn=False)
    config = json.loads((folder / "config.json").read_text())
    assert config["qzoom"]["has_gate"] is False

    checkpoint = open_checkpoint(folder)
    assert not checkpoint.qzoom.has_rpn
    assert_holds(checkpoint, model)


def test_folder_without_our_key_is_a_plain_base_model(copy_of):
    folder, _ = copy_of("qwen2_5_vl", "own", has_gate=False, has_rpn=False)
    config = json.loads((folder / "config.json").read_text())
    del config["qzoom"]
    (folder / "config.json").write_text(json.dumps(config))

    found = open_checkpoint(folder).qzoom
    assert (found.has_gate, found.has_rpn, found.split_layer) == (False, False, 3)


def test_preset_changes_the_method_but_not_the_branches(random_folder):
    folder, model = random_folder("qwen2_5_vl", "released")
    assert model.qzoom.roi_positions == "sequential"

    found = open_checkpoint(folder, preset="paper").qzoom
    assert found == QZoomConfig.preset(
        "paper", "qwen2_5_vl", split_layer=3, gate_depth=2, rpn_depth=2
    )


@pytest.mark.parametrize(
    ("published", "field", "value"),
    [
        ({"reuse_src_pos": True}, "roi_positions", "interpolated"),
        ({"high_res_thresh": 0.025}, "tau_gate", 0.025),
        ({"high_res_T": 1}, "gate_depth", 1),
        ({"enable_high_res": False}, "has_gate", False),
        ({"roi_multi_head": False}, "rpn_multi_head", True),
    ],
)
def test_published_keys_become_fields(copy_of, published, field, value):
    folder, _ = copy_of("qwen2_5_vl")
    edit_config(folder, **published)

    assert getattr(open_checkpoint(folder).qzoom, field) == value


@pytest.mark.parametrize(
    ("published", "field", "value"),
    [
        ({"roi_multi_head": False}, "rpn_multi_head", False),
        ({"roi_super_type": "lazy"}, "rpn_extra_norm", False),
    ],
)
def test_llava_honours_keys_that_qwen_ignores(copy_of, published, field, value):
    folder, _ = copy_of("llava")
    edit_config(folder, **published)

    assert getattr(open_checkpoint(folder).qzoom, field) == value


def test_llava_without_inner_tower_reads_the_folder_that_it_names(copy_of):
    folder, model = copy_of("llava")
    path = folder / "model.safetensors"
    save_file({n: t for n, t in load_file(path).items() if "vision_tower" not in n}, path)

    assert_holds(open_checkpoint(folder), model)


def test_a_new_field_with_its_default_leaves_the_revision_as_it_was(tmp_path):
    write_random_checkpoint(tmp_path, "qwen2_5_vl")
    revision = open_checkpoint(tmp_path).revision
    config = json.loads((tmp_path / "config.json").read_text())
    del config["qzoom"]["roi_threshold"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert open_checkpoint(tmp_path).revision == revision
    config["qzoom"]["roi_threshold"] = "relative"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert open_checkpoint(tmp_path).revision != revision


def test_revision_follows_weights_and_settings(copy_of):
    folder, _ = copy_of("qwen2_5_vl")
    first = open_checkpoint(folder)
    assert open_checkpoint(folder).revision == first.revision
    assert open_checkpoint(folder, preset="paper").revision != first.revision

    tensors = load_file(folder / "model.safetensors")
    save_file({n: t + 0.5 for n, t in tensors.items()}, folder / "model.safetensors")
    assert open_checkpoint(folder).revision != first.revision


def test_random_weights_follow_from_the_seed():
    name, shape = "lm_head.weight", (8, 4)
    first, same, other = (random_model("qwen3_vl", seed=seed) for seed in (0, 0, 1))

    assert torch.equal(first.tensor(name, shape), same.tensor(name, shape))
    assert not torch.equal(first.tensor(name, shape), other.tensor(name, shape))
