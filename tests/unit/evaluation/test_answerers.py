import json

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from evaluation.answerers import Asked
from evaluation.answerers.local import LocalAnswerer, PictureCache, open_pipeline
from evaluation.dataset import open_dataset, size_domain
from evaluation.modes import Mode, sweep
from evaluation.results import load_run
from evaluation.run import evaluate, evaluate_all
from qzoom.builtin import builtin_model
from qzoom.contracts.options import Options
from qzoom.data.dataset import write_dataset
from qzoom.data.record import PictureFile, Record
from qzoom.errors import InvalidRequest


@pytest.fixture(scope="module")
def pipeline():
    return open_pipeline(builtin_model())


@pytest.fixture(scope="module")
def data():
    return open_dataset("builtin:test?seed=5", questions=10)


def test_answers_do_not_depend_on_the_batch(pipeline, data):
    mode = Mode("auto", tau_gate=0.0)
    alone = list(evaluate(LocalAnswerer(pipeline, batch=1), data, mode))
    together = list(evaluate(LocalAnswerer(pipeline, batch=7), data, mode))
    assert [r.answer for r in alone] == [r.answer for r in together]
    assert [r.box_px for r in alone] == [r.box_px for r in together]
    assert all(r.p_refine is not None and r.cpu_s > 0 for r in alone)
    assert all(r.wall_s > 0 for r in alone)
    assert all(r.wall_s is None for r in together)
    assert {r.domain for r in alone} == {size_domain(alone[0].size_px)}


def test_the_plain_model_pays_for_no_gate(pipeline, data):
    results = list(evaluate(LocalAnswerer(pipeline), data, Mode("base")))
    assert all(r.p_refine is None and r.roi_tokens == 0 for r in results)
    wide = list(evaluate(LocalAnswerer(pipeline), data, Mode("base", 144)))
    assert all(a.coarse_tokens < b.coarse_tokens <= 144 for a, b in zip(results, wide, strict=True))


def test_every_mode_is_asked_every_question(pipeline, data):
    pairs = list(evaluate_all(LocalAnswerer(pipeline), data, sweep(["auto", "oracle"], [None])))
    assert [mode.name for mode, _ in pairs[::10]] == ["base", "auto", "zoom", "oracle"]
    scores = {kind: sum(r.score for m, r in pairs if m.kind == kind) for kind in ("base", "oracle")}
    assert scores["oracle"] >= scores["base"]


def test_a_broken_picture_costs_its_own_question_only(pipeline, data, tmp_path):
    (tmp_path / "x.png").write_text("broken")
    bad = Record("bad", PictureFile(tmp_path / "x.png"), "What?", ("a",))
    records = [*data.records[:2], bad, data.records[2]]
    asked = [Asked(r.picture, r.conversation(), Options(), 4) for r in records]
    outcomes = list(LocalAnswerer(pipeline, batch=4).answer_all(asked))
    assert [bool(o.error) for o in outcomes] == [False, False, True, False]
    assert "x.png" in outcomes[2].error


def test_limits_of_a_benchmark_replace_the_models():
    pipeline = open_pipeline(builtin_model(), limits=(128, 576))
    assert pipeline.checkpoint.qzoom.roi_max_tokens == 576
    outcome = next(
        LocalAnswerer(pipeline).answer_all(
            Asked(r.picture, r.conversation(), Options(route="direct"), 2)
            for r in open_dataset("builtin:test", questions=1).records
        )
    )
    assert 128 <= outcome.coarse_tokens <= 576
    with pytest.raises(InvalidRequest, match="cannot be used"):
        open_pipeline("/nonexistent")


def test_the_cache_keeps_no_more_than_it_may():
    class Source:
        def __init__(self, key):
            self.key, self.loads = key, 0

        def load(self):
            self.loads += 1
            return np.zeros((10, 10, 3), np.uint8)

    cache, sources = PictureCache(max_bytes=700), [Source(k) for k in "abc"]
    for source in (*sources, sources[2], sources[0]):
        cache.load(source)
    assert [s.loads for s in sources] == [2, 1, 1]


def test_data_sets_without_answers_are_refused(tmp_path):
    list(write_dataset(tmp_path, "val", 0, 1))
    assert len(open_dataset(str(tmp_path), questions=2).records) == 2
    lines = (tmp_path / "data.jsonl").read_text().splitlines()
    unknown = {**json.loads(lines[0]), "image": "missing.png"}
    (tmp_path / "data.jsonl").write_text(json.dumps(unknown))
    with pytest.raises(InvalidRequest, match=r"no question with an answer; 1 record was skipped"):
        open_dataset(str(tmp_path))


def test_the_command_writes_a_run_that_pareto_draws(tmp_path):
    run = CliRunner().invoke(
        app,
        ["evaluate", "--questions", "6", "--modes", "base,auto", "--budgets", "36,72", "--save",
         str(tmp_path)],
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    stored = load_run(tmp_path / "run.json")
    assert list(stored.modes()) == ["base@36", "base@72", "auto@36", "auto@72"]
    assert stored.about["questions"] == 6
    assert "| right, all |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "pareto.png").stat().st_size > 10_000
    text = (tmp_path / "pareto.md").read_text()
    assert "base at its best" in text
    assert "1 threads" in text
    assert "[bold]" not in text
    drawn = CliRunner().invoke(
        app, ["evaluate", "pareto", str(tmp_path / "run.json"), "--save", str(tmp_path / "p.png")]
    )
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "p.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--modes", "bass"], "'bass'"), (["--budgets", "36,x"], "36,x"),
        (["--data", "nowhere"], "nowhere"), (["--metric", "bleu"], "bleu"),
        (["--task", "docvqa"], "docvqa:FOLDER"), (["--task", "imagenet:x"], "imagenet"),
        (["--task", "docvqa:/nonexistent"], "/nonexistent"), (["--preset", "own"], "own"),
        (["--url", "http://127.0.0.1:9"], "no server"), (["--url", "ftp://x"], "ftp"),
        (["--published-thresholds"], "no task"),
    ],
)  # fmt: skip
def test_mistakes_end_with_a_line_that_names_them(arguments, words):
    run = CliRunner().invoke(app, ["evaluate", "--questions", "1", *arguments])
    assert run.exit_code in {1, 2}, run.output
    assert words in run.output.replace("\n", "")
    assert "Traceback" not in run.output
