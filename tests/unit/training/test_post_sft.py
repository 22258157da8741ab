import dataclasses

import numpy as np
import pytest
import torch

from qzoom.errors import InvalidRequest
from qzoom.model.loading import open_checkpoint
from qzoom.model.random_checkpoint import write_random_checkpoint
from qzoom.model.rpn import RegionProposer
from tests.unit.training.conftest import FAMILIES
from tests.unit.training.tiny import losses, recipe
from training.labels.hard import read_comparisons
from training.labels.jobs import HardSampleJob, run_here
from training.labels.shards import LabelFolder, group_pictures
from training.reading.reader import Reader
from training.stages.parts import merge
from training.stages.post_sft import HardSample, PostSftTask
from training.stages.run import StageRun, train_post_sft


@pytest.fixture(scope="module", params=FAMILIES)
def case(request, tmp_path_factory, data):
    """A tiny model with an RPN that always proposes, and its comparisons."""
    family = request.param
    folder = tmp_path_factory.mktemp(family)
    plan = recipe(
        family,
        "post_sft.lr=0.003",
        "post_sft.batch=4",
        "post_sft.steps=12",
        "hard_samples.max_new_tokens=4",
    )
    method = {k: v for k, v in plan.method.items() if k != "split_layer"}
    write_random_checkpoint(
        folder / "model", family, **{**method, "has_gate": False, "tau_roi": 0.05}
    )
    job = HardSampleJob(model=folder / "model", data=data, out=folder / "labels", recipe=plan)
    assert list(run_here(job))[-1] == (1, 1)
    return job


def test_parallel_answers(case, records):
    found = list(read_comparisons(LabelFolder.open(case.out)))
    assert len(found) > len(records) // 2
    reader = Reader.load(open_checkpoint(case.model))
    rpn = RegionProposer.load(reader.checkpoint)
    group = [r for r in records if r.picture.key == records[0].picture.key]
    picture = reader.open(group[0].picture.load(), group)
    proposals = reader.propose(picture, rpn)
    by_id = {c.id: c for c in found}
    for record, proposal in zip(group, proposals, strict=True):
        if proposal is None:
            assert record.id not in by_id
        else:
            assert by_id[record.id].box_px == proposal.box_px


def test_a_model_without_an_rpn_is_refused(case, checkpoints):
    family = open_checkpoint(case.model).family
    job = dataclasses.replace(case, model=checkpoints[family], out=case.out.with_name("other"))
    with pytest.raises(InvalidRequest, match="has no RPN"):
        next(run_here(job))


def test_the_loss_is_that_of_the_served_sequence(case, records):
    """Cross-entropy of packed training sequences against the reader's scores of the same crops."""
    checkpoint = open_checkpoint(case.model)
    comparisons = {c.id: c for c in read_comparisons(LabelFolder.open(case.out))}
    chosen = [r for r in records if r.id in comparisons]
    groups = group_pictures(chosen)
    samples = [
        HardSample(number, record, comparisons[record.id])
        for number, group in enumerate(groups)
        for record in group
    ]
    plan = case.recipe.post_sft
    device = torch.device("cpu")
    task = PostSftTask(checkpoint, samples, plan, suffix="", device=device, dtype=torch.float32)
    batch = task.prepare(range(len(samples)), 0)
    packed = task.loss(batch)
    reader = Reader.load(checkpoint)
    total = 0.0
    for group in groups:
        picture = reader.open(group[0].picture.load(), group)
        crops = [(i, comparisons[r.id].proposal()) for i, r in enumerate(group)]
        answers = [reader.answer_ids(r.answers[0]) for r in group]
        scores = reader.score(picture, reader.tails(picture, crops), answers)
        total -= sum(s * len(a) for (s, _), a in zip(scores, answers, strict=True))
    assert float(packed.detach()) == pytest.approx(total, rel=1e-4)
    again = dataclasses.replace(case).recipe.post_sft.model_copy(update={"recompute": True})
    same = PostSftTask(checkpoint, samples, again, suffix="", device=device, dtype=torch.float32)
    assert float(same.loss(same.prepare(range(len(samples)), 0)).detach()) == pytest.approx(
        total, rel=1e-4
    )
    packed.backward()
    trained = {id(p) for p in task.parameters.values()}
    for parameter in task.decoder.parameters():
        assert (parameter.grad is not None) == (id(parameter) in trained)


def test_training_moves_the_language_model_alone(case, tmp_path):
    plan = case.recipe.post_sft.model_copy(update={"mix": 1e6, "random_boxes": 0.5})
    run = StageRun(
        model=case.model,
        labels=[case.out],
        out=tmp_path / "run",
        recipe=case.recipe.model_copy(update={"post_sft": plan}),
    )
    if not any(c.is_hard for c in read_comparisons(LabelFolder.open(case.out))):
        # A random model answers nothing right: call the first questions hard.
        make_hard(case.out)
    train_post_sft(run)
    assert np.mean(losses(run.out)[-3:]) < np.mean(losses(run.out)[:3])
    base = open_checkpoint(case.model)
    merge(base, [run.out], tmp_path / "model")
    tuned = open_checkpoint(tmp_path / "model")
    assert tuned.qzoom == base.qzoom
    for name in base.locations:
        moved = not torch.equal(base.tensors([name])[name], tuned.tensors([name])[name])
        is_trained = name.startswith("model.language_model.layers.") or name == "lm_head.weight"
        assert moved == is_trained, name


def make_hard(folder):
    labels = LabelFolder.open(folder)
    for number, shard in enumerate(list(labels.read())):
        changed = [{**r, "base_right": True, "roi_right": False} for r in shard.records]
        labels.write(number, dataclasses.replace(shard, records=changed, arrays={}))
