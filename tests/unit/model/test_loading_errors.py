"""A folder that cannot be used is refused by name, in one line."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from qzoom.model.images import open_preprocessor
from qzoom.model.loading import CheckpointError, open_checkpoint


@pytest.fixture
def folder(random_folder, tmp_path):
    source, _ = random_folder("qwen2_5_vl", "released")
    return shutil.copytree(source, tmp_path / "model")


def edit(folder, file="config.json", **values):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_no_folder(tmp_path):
    with pytest.raises(CheckpointError, match="none is not a folder"):
        open_checkpoint(tmp_path / "none")


def test_no_config(folder):
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        open_checkpoint(folder)


@pytest.mark.parametrize("text", ["{", "[1]", "\ud83d".encode("utf-8", "surrogatepass")])
def test_broken_config(folder, text):
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "config.json").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "bert"}, "model of type 'bert', supported are qwen2_5_vl"),
        ({"twig_K": None}, "lacks enable_twig, twig_K or twig_T"),
        ({"roi_loss": "mse"}, "roi_loss 'mse'; supported is 'bce'"),
        ({"roi_super_type": "lazy"}, "roi_super_type 'lazy'"),
        ({"high_res_K": 2}, "high_res_K 2; supported is 3"),
        ({"twig_K": 6}, "splits after layer 6, but has 6 layers"),
        ({"hidden_size": "wide"}, r"config\.json is not valid"),
        ({"vocab_size": 1000}, r"has shape \[\d+, 64\], config\.json asks for \[1000, 64\]"),
        ({"twig_T": 3}, r"lacks qzoom\.rpn\.layers\..*, which its config promises"),
    ],
)
def test_config_that_does_not_fit(folder, values, message):
    edit(folder, **values)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mm_vision_tower": "some/other-tower"}, "vision tower 'some/other-tower'"),
        ({"mm_projector_type": "linear"}, "mm_projector_type 'linear'"),
        ({"image_aspect_ratio": "anyres"}, "image_aspect_ratio 'anyres'"),
        ({"mm_vision_select_feature": "cls_patch"}, "mm_vision_select_feature 'cls_patch'"),
    ],
)
def test_llava_options_that_are_not_llava_1_5(random_folder, tmp_path, values, message):
    source, _ = random_folder("llava", "released")
    folder = shutil.copytree(source, tmp_path / "llava")
    edit(folder, **values)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


@pytest.mark.parametrize("values", [{"tau_gate": "high"}, {"tau_gates": 0.5}, {"tau_roi": 2}])
def test_own_key_is_strict(random_folder, tmp_path, values):
    source, model = random_folder("qwen2_5_vl", "own")
    folder = shutil.copytree(source, tmp_path / "own")
    edit(folder, qzoom=model.qzoom.to_dict() | values)
    with pytest.raises(CheckpointError, match=r"key qzoom: .*tau"):
        open_checkpoint(folder)


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="only safetensors are accepted"):
        open_checkpoint(folder)


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"holds neither model\.safetensors nor"):
        open_checkpoint(folder)


def test_broken_weights(folder):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    (folder / "model.safetensors").write_text(pointer)
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        open_checkpoint(folder)


def test_missing_tensors_are_named(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.high_res_head.bias"]
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"lacks qzoom\.gate\.head\.bias, which its config"):
        open_checkpoint(folder)


def test_no_tokenizer(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        _ = open_checkpoint(folder).tokenizer


def test_broken_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer of .* cannot be read"):
        _ = open_checkpoint(folder).tokenizer


def test_broken_sentencepiece(random_folder, tmp_path):
    source, _ = random_folder("llava", "released")
    folder = shutil.copytree(source, tmp_path / "llava")
    (folder / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match=r"tokenizer of .* cannot be read"):
        _ = open_checkpoint(folder).tokenizer


def test_processor_of_another_tower(folder):
    edit(folder, "preprocessor_config.json", patch_size=16)
    with pytest.raises(CheckpointError, match=r"patch_size 16, the vision tower .* has 14"):
        open_preprocessor(open_checkpoint(folder))
