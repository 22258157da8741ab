"""Every benchmark on ten invented records in its published layout."""

import base64
import json
from collections.abc import Callable
from io import BytesIO

import pytest
from PIL import Image

from evaluation.answerers import Outcome
from evaluation.modes import Mode
from evaluation.results import Result
from evaluation.run import judge
from evaluation.tasks.registry import TASKS, open_task
from evaluation.tasks.task import SHORT_ANSWER

pa = pytest.importorskip("pyarrow", reason="extra evaluate is not installed")
pq = pytest.importorskip("pyarrow.parquet")


def png(number: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (40 + number, 30), (number * 20, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def feature(number: int) -> dict:
    """A value of the `Image` feature of `datasets`."""
    return {"bytes": png(number), "path": f"{number}.png"}


def text64(number: int) -> str:
    return base64.b64encode(png(number) + b"\0" * 1000).decode()


LETTERS = "ABCD"

ROWS: dict[str, tuple[str, Callable[[int], dict]]] = {
    "docvqa": (
        "DocVQA/validation-00000-of-00001.parquet",
        lambda i: {"questionId": str(i), "question": f"Total {i}?", "image": feature(i),
                   "answers": [f"${i},000", str(i)], "docId": i},
    ),
    "infovqa": (
        "InfographicVQA/validation-00000-of-00001.parquet",
        lambda i: {"questionId": str(i), "question": f"Share {i}?", "image": feature(i),
                   "answers": [f"{i}%"]},
    ),
    "chartqa": (
        "data/test-00000-of-00001.parquet",
        lambda i: {"type": ("human_test", "augmented_test")[i % 2], "question": f"Bar {i}?",
                   "answer": str(10 * i), "image": feature(i)},
    ),
    "ocrbench": (
        "data/test-00000-of-00001.parquet",
        lambda i: {"dataset": "HME100k" if i == 9 else "IIIT5K",
                   "question_type": "Handwritten Mathematical Expression Recognition" if i == 9
                   else "Regular Text Recognition",
                   "question": f"what is written? {i} ", "answer": [f"Word {i}"],
                   "image": feature(i)},
    ),
    "textvqa": (
        "data/validation-00000-of-00003.parquet",
        lambda i: {"question_id": i, "question": f"what BRAND {i}?", "image": feature(i),
                   "answers": [f"b{i}"] * 3 + ["other"] * 7, "ocr_tokens": ["x"]},
    ),
    "vstar": (
        "data/test-00000-of-00001.parquet",
        lambda i: {"image": feature(i), "label": LETTERS[i % 4], "question_id": i,
                   "category": ("direct_attributes", "relative_position")[i % 2],
                   "text": f"Colour {i}? (A) red (B) blue (C) green (D) dark (grey) tone\n"
                           "Answer with the option's letter from the given choices directly."},
    ),
    "hrbench4k": (
        "hr_bench_4k.parquet",
        lambda i: {"index": i, "question": f"Sign {i}?", "A": "x", "B": "y", "C": "z", "D": "w",
                   "answer": LETTERS[i % 4], "category": ("single", "cross")[i % 2],
                   "cycle_category": f"cycle_{i % 4}", "image": text64(i)},
    ),
    "hrbench8k": (
        "hrbench_version_split/hrbench_8k-00000-of-00001.parquet",
        lambda i: {"index": i, "question": f"Sign {i}?", "A": "x", "B": "y", "C": "z", "D": "w",
                   "answer": LETTERS[i % 4], "category": "single", "cycle_category": "cycle_0",
                   "image": text64(i)},
    ),
    "mme-realworld-lite": (
        "data/train-00000-of-00002.parquet",
        lambda i: {"index": str(i), "bytes": text64(i), "question": f"How many {i}?",
                   "multi-choice options": [f"({c}) {n}" for n, c in enumerate("ABCDE")],
                   "answer": "ABCDE"[i % 5], "l2-category": "count",
                   "category": ("Perception/OCR with Complex Context", "Reasoning/Monitoring")[
                       i % 2]},
    ),
    "mme": (
        "data/test-00000-of-00004.parquet",
        lambda i: {"question_id": f"p/{i // 2}.png", "image": feature(i),
                   "question": f"Is it {i}? Please answer yes or no.",
                   "answer": ("Yes", "No")[i % 2],
                   "category": "existence" if i < 8 else "code_reasoning"},
    ),
    "mmstar": (
        "mmstar.parquet",
        lambda i: {"index": i, "image": feature(i), "answer": LETTERS[i % 4],
                   "question": f"Which {i}?\nOptions: A: x, B: y, C: z, D: w",
                   "category": ("math", "coarse perception")[i % 2],
                   "l2_category": f"part {i % 3}"},
    ),
}  # fmt: skip

ANSWERS: dict[str, tuple[str, str]] = {
    "docvqa": ("$3,000", "5"), "infovqa": ("3%", "44"), "chartqa": ("31", "40"),
    "ocrbench": ("it says WORD 3!", "word 4"), "textvqa": ("The B3.", "third"),
    "vstar": ("D", "red"), "hrbench4k": ("(D) w", "x"), "hrbench8k": ("The answer is D.", "A"),
    "mme-realworld-lite": ("(D)", "E"), "mme": ("No, it is not.", "Yes"), "mmstar": ("D: w", "A"),
}  # fmt: skip
"""To record 3: a right answer and a wrong one."""


def write(tmp_path, name):
    file, row = ROWS[name]
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([row(i) for i in range(10)]), path)
    return path


def results(data, answer: Callable[[int], str]) -> list[Result]:
    return [
        judge(data, Mode("base"), record, Outcome(answer(i), size_px=(40, 30)))
        for i, record in enumerate(data.records)
    ]


def test_every_task_is_tested():
    assert set(ROWS) == set(ANSWERS) == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_ten_records_are_read_asked_and_judged(tmp_path, name):
    write(tmp_path, name)
    task, data = open_task(f"{name}:{tmp_path}")
    assert data.skipped.count == 0
    assert len(data.records) == len({r.id for r in data.records}) == 10
    assert {r.domain for r in data.records} == {task.domain}
    assert data.records[3].picture.load().shape == (30, 43, 3)
    asked = data.conversation(data.records[3])[0].parts[1].text
    assert asked.endswith(SHORT_ANSWER)
    assert "3" in asked
    right, wrong = ANSWERS[name]
    assert results(data, lambda _: right)[3].score > 0.8
    assert results(data, lambda _: f"<answer>{right}</answer>")[3].score > 0.8
    assert results(data, lambda _: wrong)[3].score < 0.85 * results(data, lambda _: right)[3].score


@pytest.mark.parametrize("name", TASKS)
def test_broken_records_are_skipped_and_counted(tmp_path, name):
    path = write(tmp_path, name)
    rows = pq.read_table(path).to_pylist()
    image = "bytes" if name == "mme-realworld-lite" else "image"
    rows[4][image] = "x" if isinstance(rows[4][image], str) else {"bytes": b"x", "path": None}
    question = "text" if name == "vstar" else "question"
    rows[5][question] = ""
    pq.write_table(pa.Table.from_pylist(rows), path)
    _, data = open_task(f"{name}:{tmp_path}", questions=5)
    assert len(data.records) == 5
    _, data = open_task(f"{name}:{tmp_path}")
    assert len(data.records) == 8
    assert data.skipped.count == 2


def test_prompts_are_the_published_ones(tmp_path):
    for name in ("vstar", "mme-realworld-lite", "hrbench4k", "textvqa", "mme"):
        write(tmp_path / name, name)
    asked = {
        name: open_task(f"{name}:{tmp_path / name}")[1].records[0].question
        for name in ("vstar", "mme-realworld-lite", "hrbench4k", "textvqa", "mme")
    }
    assert asked["vstar"] == (
        "Colour 0?\nA. red\nB. blue\nC. green\nD. dark (grey) tone"
        "\nAnswer with the option's letter from the given choices directly."
    )
    assert asked["mme-realworld-lite"].startswith(
        "How many 0? The choices are listed below:\n(A) 0\n(B) 1"
    )
    assert asked["mme-realworld-lite"].endswith("The best answer is: ")
    assert (
        asked["hrbench4k"] == "Sign 0?\nA. x\nB. y\nC. z\nD. w\nAnswer the option letter directly."
    )
    assert asked["textvqa"] == "What brand 0?"
    assert asked["mme"] == "Is it 0?"


def test_published_settings():
    limits = {name: task.limits for name, task in TASKS.items()}
    assert limits["docvqa"] == limits["textvqa"] == (256, 576)
    assert limits["ocrbench"] == (128, 576)
    assert limits["vstar"] == limits["hrbench8k"] == limits["mme-realworld-lite"] == (512, 4096)
    chart = TASKS["chartqa"]
    assert (chart.thresholds["qwen2_5_vl"].tau_gate, chart.thresholds["qwen2_5_vl"].tau_roi) == (
        0.05,
        0.125,
    )
    assert TASKS["vstar"].thresholds["qwen3_vl"].tau_gate == 0.025
    assert TASKS["ocrbench"].thresholds["llava"].tau_gate is None
    tokens = {name: task.max_tokens for name, task in TASKS.items()}
    assert (tokens["chartqa"], tokens["docvqa"], tokens["vstar"], tokens["ocrbench"]) == (
        16, 32, 16, 128,
    )  # fmt: skip


def test_mme_scores_pictures_with_both_answers_right(tmp_path):
    write(tmp_path, "mme")
    task, data = open_task(f"mme:{tmp_path}")
    assert task.figures(results(data, lambda i: ("Yes", "No")[i % 2])) == {
        "perception": 200, "cognition": 200,
    }  # fmt: skip
    found = task.figures(results(data, lambda i: ("yes", "no" if i < 4 else "yes")[i % 2]))
    assert found == {"perception": pytest.approx(75 + 50), "cognition": pytest.approx(50)}


def test_mmstar_and_ocrbench_have_their_own_totals(tmp_path):
    write(tmp_path / "s", "mmstar")
    task, data = open_task(f"mmstar:{tmp_path / 's'}")
    figures = task.figures(results(data, lambda i: LETTERS[i % 4] if i % 2 == 0 else ""))
    assert (figures["math"], figures["coarse perception"]) == (1.0, 0.0)
    assert figures["average"] == 0.5
    write(tmp_path / "o", "ocrbench")
    task, data = open_task(f"ocrbench:{tmp_path / 'o'}")
    answers = results(data, lambda i: "w o r d 9 Word9" if i == 9 else "")
    assert answers[9].score == 1.0
    assert task.figures(answers) == {"score of 1,000": pytest.approx(100)}


def test_vstar_is_read_from_its_first_layout(tmp_path):
    (tmp_path / "direct_attributes").mkdir()
    lines = []
    for i in range(10):
        (tmp_path / "direct_attributes" / f"{i}.jpg").write_bytes(png(i))
        lines.append({"image": f"direct_attributes/{i}.jpg", "text": f"Q{i}? (A) red (B) blue",
                      "category": "direct_attributes", "label": "B", "question_id": i})  # fmt: skip
    lines[4]["image"] = "../../etc/passwd"
    lines[5]["label"] = "C"
    (tmp_path / "test_questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    _, data = open_task(f"vstar:{tmp_path}")
    assert len(data.records) == 8
    assert data.records[0].choices == ("red", "blue")


def test_hrbench_is_read_from_tab_separated_values(tmp_path):
    _, row = ROWS["hrbench4k"]
    rows = [row(i) for i in range(10)]
    lines = ["\t".join(rows[0]), *("\t".join(map(str, r.values())) for r in rows)]
    (tmp_path / "hr_bench_4k.tsv").write_text("\n".join(lines))
    _, data = open_task(f"hrbench4k:{tmp_path}")
    assert [r.group for r in data.records] == ["FSP", "FCP"] * 5
    assert data.records[1].answers == ("B",)
