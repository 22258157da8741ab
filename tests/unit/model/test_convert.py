"""Conversion keeps every tensor, and plain transformers opens the result."""

import shutil

import pytest
import torch
import typer
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoTokenizer
from typer.testing import CliRunner

from cli.console import CommandGroup
from cli.convert import convert as convert_command
from qzoom.model.loading import CheckpointError, convert, open_checkpoint, writer
from qzoom.model.random_checkpoint import random_model

ALL = ["model", "lm_head", "qzoom"]


@pytest.fixture
def converted(random_folder, family, tmp_path):
    source, model = random_folder(family, "released")
    target = tmp_path / "own"
    assert convert.convert(source, target)
    return source, target, model


def test_nothing_is_lost(converted):
    source, target, _ = converted
    before, after = open_checkpoint(source), open_checkpoint(target)

    assert after.qzoom == before.qzoom
    assert after.eos_ids == before.eos_ids
    old, new = before.tensors(ALL), after.tensors(ALL)
    assert set(old) == set(new)
    assert all(torch.equal(old[name], new[name]) for name in old)
    text = "what is the code <|im_start|>"
    assert after.tokenizer.encode(text) == before.tokenizer.encode(text)
    assert after.tokenizer.chat_template == before.tokenizer.chat_template


def test_plain_transformers_computes_the_base_model(converted):
    _, target, model = converted
    opened, info = AutoModelForImageTextToText.from_pretrained(
        target, dtype=torch.float32, output_loading_info=True
    )
    assert not any(info.values()), info

    expected = AutoModelForImageTextToText.from_config(model.hf_config).float()
    shapes = model.shapes()
    names = [name for name in expected.state_dict() if name in shapes]
    expected.load_state_dict(model.tensors(names))
    ids = torch.arange(5, 25)[None]
    with torch.inference_mode():
        logits, reference = opened.eval()(input_ids=ids), expected.eval()(input_ids=ids)
    torch.testing.assert_close(logits.logits, reference.logits, rtol=0, atol=0)
    assert len(AutoTokenizer.from_pretrained(target)) == len(model.tokenizer)


def test_base_is_stored_as_transformers_stores_it(converted, tmp_path):
    _, target, model = converted
    plain = AutoModelForImageTextToText.from_config(model.hf_config)
    plain.save_pretrained(tmp_path / "plain")

    with safe_open(tmp_path / "plain" / "model.safetensors", "pt") as file:
        assert set(load_file(target / "model.safetensors")) == set(file.keys())


def test_again_does_nothing(converted):
    source, target, _ = converted
    files = {path: path.stat().st_mtime_ns for path in target.iterdir()}

    assert not convert.convert(source, target)
    assert {path: path.stat().st_mtime_ns for path in target.iterdir()} == files


def test_another_folder_is_not_overwritten(random_folder, tmp_path):
    source, _ = random_folder("qwen2_5_vl", "released")
    target = tmp_path / "taken"
    target.mkdir()
    (target / "notes.txt").write_text("mine")

    with pytest.raises(CheckpointError, match="is not a conversion of"):
        convert.convert(source, target)
    assert [path.name for path in target.iterdir()] == ["notes.txt"]


def test_failure_leaves_nothing_behind(random_folder, tmp_path, monkeypatch):
    source, _ = random_folder("qwen2_5_vl", "released")

    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(writer, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        convert.convert(source, tmp_path / "own")
    assert list(tmp_path.iterdir()) == []


def test_large_models_are_written_in_shards(random_folder, tmp_path, monkeypatch):
    source, _ = random_folder("qwen3_vl", "released", is_tied=True)
    monkeypatch.setattr(writer, "MAX_SHARD_BYTES", 100_000)
    target = tmp_path / "own"
    convert.convert(source, target)

    assert len(list(target.glob("model-*.safetensors"))) > 2
    old, new = open_checkpoint(source).tensors(ALL), open_checkpoint(target).tensors(ALL)
    assert all(torch.equal(old[name], new[name]) for name in old)
    _, info = AutoModelForImageTextToText.from_pretrained(target, output_loading_info=True)
    assert not any(info.values()), info


def test_pruned_source_becomes_complete(random_folder, tmp_path):
    source, _ = random_folder("llava", "released")
    pruned = shutil.copytree(source, tmp_path / "pruned")
    tensors = load_file(pruned / "model.safetensors")
    kept = {
        n: t for n, t in tensors.items() if "model.layers.5." not in n and n != "lm_head.weight"
    }
    writer.save_file(kept, pruned / "model.safetensors")
    base, _ = random_folder("llava", "own", seed=3, has_gate=False, has_rpn=False)
    convert.convert(pruned, tmp_path / "own", base=base)

    name = "model.language_model.layers.5.mlp.up_proj.weight"
    filled = open_checkpoint(tmp_path / "own").tensors([name])[name]
    drawn = random_model("llava", seed=3)
    assert torch.equal(filled.float(), drawn.tensor(name, drawn.shapes()[name]))


def test_command(random_folder, tmp_path):
    app = typer.Typer(cls=CommandGroup)
    app.command("convert")(convert_command)
    app.command("other")(lambda: None)
    source, _ = random_folder("qwen2_5_vl", "released")
    target = str(tmp_path / "own")
    run = CliRunner().invoke

    assert "wrote" in run(app, ["convert", str(source), target]).output
    again = run(app, ["convert", str(source), target])
    assert (again.exit_code, "nothing to do" in again.output) == (0, True)
    missing = run(app, ["convert", str(tmp_path / "none"), target])
    assert missing.exit_code == 2
    assert "is not a folder" in missing.output
