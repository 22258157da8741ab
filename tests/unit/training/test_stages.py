"""Training on tiny random models: the trained branch is the served one, a kill changes nothing."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.data.records import open_records
from qzoom.errors import InvalidRequest
from qzoom.model.loading import open_checkpoint
from qzoom.model.pipeline import Pipeline
from qzoom.model.prefill import PrefillGate, PrefillInput
from qzoom.model.rpn import RegionProposer, RpnInput
from tests.unit.training.conftest import FAMILIES
from tests.unit.training.tiny import losses, recipe, run_of
from training.labels.gate import read_trajectories
from training.labels.jobs import GateLabelJob, Machine, RegionLabelJob, run_here
from training.labels.rpn import read_samples
from training.labels.shards import LabelFolder, group_pictures
from training.stages.branches import GateBranch, RpnBranch
from training.stages.parts import merge
from training.stages.pieces import MAX_FILE_BYTES, read_pieces, write_pieces
from training.stages.recipe import RegionLabels
from training.stages.rpn import read_rpn_data
from training.stages.run import StageRun, train_gate, train_rpn, without_branches
from training.stages.setup import base_revision
from training.stages.states import FrozenLower

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_trained_rpn_is_the_served_one(checkpoints, labels, records, family, tmp_path):
    """Last training logits, recomputed by the stage that serves, from the merged folder."""
    run = run_of(checkpoints, labels, family, tmp_path / "run")
    train_rpn(run)
    base = open_checkpoint(checkpoints[family])
    merge(base, [tmp_path / "run"], tmp_path / "model")
    merged = open_checkpoint(tmp_path / "model")
    assert merged.qzoom.has_rpn
    assert not merged.qzoom.has_gate
    group = [r for r in records if r.picture.key == records[0].picture.key]
    pixels = group[0].picture.load()
    frozen = FrozenLower.load(without_branches(merged))
    states = frozen.states(pixels, group)
    branch = RpnBranch(merged, device=torch.device("cpu"), from_rpn=True)
    with torch.no_grad():
        [logits] = branch(frozen.pack([(states, [2, 0])]))
    gate, rpn = PrefillGate.load(merged), RegionProposer.load(merged)
    encoder = frozen._encoder
    [visual] = encoder.encode([encoder.prepare_coarse(pixels)])
    for row, number in enumerate([2, 0]):
        size = (pixels.shape[1], pixels.shape[0])
        prompt = gate.tokenize(group[number].conversation(), [visual.grid], [size])
        [output] = gate.run([PrefillInput(prompt, [visual])])
        [found] = rpn.run([RpnInput(output.state)])
        np.testing.assert_allclose(found.maps[0].logits.ravel(), logits[row], atol=2e-4)
    stored = base.tensors(["model.language_model.layers.3.self_attn.q_proj.weight"])
    trained = merged.tensors(["qzoom.rpn.layers.0.self_attn.q_proj.weight"])
    moved = [a - b for a, b in zip(trained.values(), stored.values(), strict=True)]
    assert 0 < float(moved[0].abs().max()) < 0.1  # started at layer B+1, and was trained
    for name in base.locations:
        torch.testing.assert_close(base.tensors([name]), merged.tensors([name]), rtol=0, atol=0)


def test_labels_of_other_rows_are_refused(checkpoints, labels):
    settings = RegionLabels(rows="fed_back")
    with pytest.raises(InvalidRequest, match=r"rows is 'predicting' in .* 'fed_back' is needed"):
        read_rpn_data([labels["llava"]], open_checkpoint(checkpoints["llava"]), settings)


def test_wrong_answers_teach_the_rpn_nothing_if_told_so(checkpoints, labels, data, tmp_path):
    checkpoint, folder = open_checkpoint(checkpoints["llava"]), labels["llava"]
    settings = RegionLabels(keep="right", rows="predicting")
    with pytest.raises(InvalidRequest, match=r"none of 8 questions is left .* 'right'"):
        read_rpn_data([folder], checkpoint, settings)
    said = {sample.id: sample.response for sample in read_samples(LabelFolder.open(folder))}
    lines = [json.loads(line) for line in Path(data).read_text().splitlines()]
    for number in (1, 4):
        lines[number]["answer"] = said[lines[number]["id"]]
    moved = Path(data).with_name(f"{tmp_path.name}.jsonl")
    moved.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, about = read_rpn_data([folder], checkpoint, settings, str(moved))
    assert [sample.id for _, _, sample in found.samples] == [lines[1]["id"], lines[4]["id"]]
    assert about["keep"] == "right"
    everything, _ = read_rpn_data([folder], checkpoint, RegionLabels(rows="predicting"), str(moved))
    assert len(everything.samples) == len(lines)


def test_accumulation_and_recomputation_change_nothing(checkpoints, labels, tmp_path):
    train_rpn(run_of(checkpoints, labels, "qwen3_vl", tmp_path / "a"))
    changes = ("rpn.micro_batch=1", "rpn.recompute=true", "rpn.cache_mb=0")
    train_rpn(run_of(checkpoints, labels, "qwen3_vl", tmp_path / "b", *changes))
    np.testing.assert_allclose(losses(tmp_path / "a"), losses(tmp_path / "b"), rtol=1e-4)
    assert losses(tmp_path / "a")[-1] < losses(tmp_path / "a")[0]
    assert (tmp_path / "a" / "curve.png").stat().st_size > 1000


def test_another_run_is_not_resumed(checkpoints, labels, tmp_path):
    train_rpn(run_of(checkpoints, labels, "qwen2_5_vl", tmp_path))
    with pytest.raises(InvalidRequest, match="--resume"):
        train_rpn(run_of(checkpoints, labels, "qwen2_5_vl", tmp_path))
    changed = run_of(checkpoints, labels, "qwen2_5_vl", tmp_path, "rpn.lr=0.1", resume=True)
    with pytest.raises(InvalidRequest, match=r"plan\.lr = 0\.001, asked for is 0\.1"):
        train_rpn(changed)


def test_labels_of_another_model_are_refused(checkpoints, labels, tmp_path):
    run = run_of(checkpoints, labels, "qwen2_5_vl", tmp_path)
    with pytest.raises(InvalidRequest, match="base_revision is"):
        train_rpn(dataclasses.replace(run, labels=[labels["llava"]]))


def test_a_dialogue_is_run_once(checkpoints, data):
    group = group_pictures(open_records(data))[0]
    frozen = FrozenLower.load(without_branches(open_checkpoint(checkpoints["qwen2_5_vl"])))
    pixels = group[0].picture.load()
    states = frozen.states(pixels, group)
    assert len(group) == 4
    assert len(states.tails) == 3
    first, last = states.queries[0], states.queries[3]
    assert first[0] == last[0]
    assert first[1] < last[1]
    alone = frozen.states(pixels, group[:1])
    branch, row = first
    torch.testing.assert_close(states.tails[branch][row], alone.tails[0][-1], rtol=1e-4, atol=1e-5)


def test_labels_resume_and_state_their_job(checkpoints, data, labels):
    folder = LabelFolder.open(labels["qwen2_5_vl"])
    samples = list(read_samples(folder))
    assert {s.id for s in samples} >= {"0-0", "2-1"}
    assert all(s.evidence.attention.sum() <= 1.01 for s in samples)
    job = RegionLabelJob(
        model=checkpoints["qwen2_5_vl"],
        data=data,
        out=labels["qwen2_5_vl"],
        recipe=recipe("qwen2_5_vl"),
        heads={3: [0]},
    )
    with pytest.raises(InvalidRequest, match=r"heads = .* asked for is"):
        list(run_here(job))
    with pytest.raises(InvalidRequest, match="head 9 of layer 3"):
        list(run_here(dataclasses.replace(job, heads={3: [9]})))


def test_bad_records_are_skipped_and_told(checkpoints, data, labels, tmp_path):
    lines = Path(data).read_text().splitlines()
    lines[2] = '{"id": "x", "image": "missing.png", "question": "?", "answer": "a"}'
    moved = Path(data).with_name(f"{tmp_path.name}.jsonl")
    moved.write_text("\n".join([*lines, "no JSON"]) + "\n")
    plan = recipe("qwen2_5_vl")
    job = RegionLabelJob(
        model=checkpoints["qwen2_5_vl"], data=str(moved), out=tmp_path / "labels", recipe=plan,
        heads={3: [0, 2], 4: []},
    )  # fmt: skip
    assert list(run_here(job))[-1] == (1, 1)
    folder = LabelFolder.open(job.out)
    assert folder.job["skipped"] == 2
    assert [line.split(": ")[0] for line in folder.job["skipped_first"]] == [
        f"{moved.name}:3",
        f"{moved.name}:{len(lines) + 1}",
    ]
    found, _ = read_rpn_data([job.out], open_checkpoint(job.model), plan.region_labels)
    assert len(found.samples) == len(lines) - 1
    assert "skipped" not in LabelFolder.open(labels["qwen2_5_vl"]).job
    moved.write_text("no JSON\n")
    with pytest.raises(InvalidRequest, match=r"no record that can be used; 1 record was skipped"):
        job.describe()


def test_tensors_of_any_size_go_into_small_files(tmp_path):
    tensors = {
        "large": torch.randn(3, 2_000_003),
        "small": torch.arange(5, dtype=torch.bfloat16),
        "scalar": torch.tensor(3.0),
    }
    write_pieces(tmp_path / "x", tensors)
    files = list((tmp_path / "x").glob("*.safetensors"))
    assert len(files) == 2
    assert max(f.stat().st_size for f in files) <= MAX_FILE_BYTES
    for name, tensor in read_pieces(tmp_path / "x"):
        torch.testing.assert_close(tensor, tensors[name], rtol=0, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_trained_gate_is_the_served_one(checkpoints, data, records, family, tmp_path):
    budgets = [] if family != "llava" else ["gate_labels.budgets=[4, 16]"]
    plan = recipe(family, "gate_labels.rule=naive", *budgets)
    job = GateLabelJob(model=checkpoints[family], data=data, out=tmp_path / "labels", recipe=plan)
    assert list(run_here(job))[-1] == (1, 1)
    found = list(read_trajectories(LabelFolder.open(tmp_path / "labels")))
    assert len(found) == len(records) + 1
    assert all(len(t.answers) == len(plan.gate_labels.budgets) for t in found)
    run = StageRun(model=checkpoints[family], labels=[job.out], out=tmp_path / "run", recipe=plan)
    train_gate(run)
    assert losses(run.out)[-1] < losses(run.out)[0]
    merge(open_checkpoint(checkpoints[family]), [run.out], tmp_path / "model")
    merged = open_checkpoint(tmp_path / "model")
    assert merged.qzoom.has_gate
    gate = PrefillGate.load(merged)
    group = [r for r in records if r.picture.key == records[0].picture.key]
    pixels = group[0].picture.load()
    frozen = FrozenLower.load(without_branches(merged))
    states = frozen.states(pixels, group)
    branch = GateBranch(merged, device=torch.device("cpu"))
    tensors = merged.tensors(["qzoom.gate"])
    for name, parameter in branch.canonical().items():
        parameter.data.copy_(tensors[name])
    with torch.no_grad():
        expected = torch.sigmoid(branch(frozen.pack([(states, [1])])))
    [visual] = frozen._encoder.encode([frozen._encoder.prepare_coarse(pixels)])
    size = (pixels.shape[1], pixels.shape[0])
    prompt = gate.tokenize(group[1].conversation(), [visual.grid], [size])
    [output] = gate.run([PrefillInput(prompt, [visual])])
    assert output.p_refine == pytest.approx(float(expected[0]), abs=1e-5)


def test_rpn_and_gate_go_into_one_model(checkpoints, labels, data, tmp_path):
    """Trained one after the other on the same base; serving finds both."""
    plan = recipe("qwen2_5_vl", "gate_labels.rule=naive")
    model = checkpoints["qwen2_5_vl"]
    train_rpn(run_of(checkpoints, labels, "qwen2_5_vl", tmp_path / "rpn"))
    list(run_here(GateLabelJob(model=model, data=data, out=tmp_path / "l", recipe=plan)))
    gate_run = StageRun(model=model, labels=[tmp_path / "l"], out=tmp_path / "gate", recipe=plan)
    train_gate(gate_run)
    base = open_checkpoint(model)
    merge(base, [tmp_path / "rpn", tmp_path / "gate"], tmp_path / "both")
    pipeline = Pipeline.open(tmp_path / "both")
    record = open_records(data)[0]
    pixels = record.picture.load()
    options = Options(tau_gate=0.0, tau_roi=0.01)
    answer = pipeline.answer(record.conversation(), [pixels], options, Sampling(max_tokens=3))
    assert answer.route == "zoom"
    assert answer.p_refine is not None
    # The merged folder is a base for more: labels of the same base still fit it.
    assert base_revision(open_checkpoint(tmp_path / "both")) == base_revision(base)
    with pytest.raises(InvalidRequest, match="not empty"):
        merge(base, [tmp_path / "rpn"], tmp_path / "both")
    other = open_checkpoint(checkpoints["qwen3_vl"])
    with pytest.raises(InvalidRequest, match="base_revision"):
        merge(other, [tmp_path / "rpn"], tmp_path / "wrong")


def test_bfloat16_follows_the_same_curve(checkpoints, labels, tmp_path):
    train_rpn(run_of(checkpoints, labels, "qwen3_vl", tmp_path / "a"))
    machine = Machine(dtype="bfloat16")
    run = run_of(checkpoints, labels, "qwen3_vl", tmp_path / "b", "rpn.bf16=true", machine=machine)
    train_rpn(run)
    np.testing.assert_allclose(losses(tmp_path / "b"), losses(tmp_path / "a"), rtol=0.05)
    for _, tensor in read_pieces(tmp_path / "b" / "part" / "tensors"):
        assert tensor.dtype == torch.float32
