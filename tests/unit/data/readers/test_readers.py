import base64
import json
import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.main import app
from qzoom.data.dataset import write_dataset
from qzoom.data.readers import Problems, detect_format, read_records
from qzoom.data.readers.problems import KEPT
from qzoom.data.readers.stages import read_stage1, read_stage3
from qzoom.errors import InvalidRequest, NotFound

pa = pytest.importorskip("pyarrow", reason="extra evaluate is not installed")
pq = pytest.importorskip("pyarrow.parquet")


def said(*turns: str) -> list[dict[str, str]]:
    speakers = ("human", "gpt")
    return [{"from": speakers[i % 2], "value": text} for i, text in enumerate(turns)]


def write_lines(path: Path, items: list) -> Path:
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n"
                            for line in items))  # fmt: skip
    return path


def test_llava_conversations_become_records(pictures):
    lines = [
        {"id": 7, "image": "a.png", "conversations": said("<image>\nWhat?", "red", "Sure?", "yes")},
        {"image": ["b.jpg"], "conversations": said("No mark?", " blue "), "group": "g"},
        {"image": "b.jpg", "messages": [{"role": "user", "content": "At the end? <image>"},
                                        {"role": "assistant", "content": "no"}]},
    ]  # fmt: skip
    problems = Problems()
    records = list(read_records(write_lines(pictures / "d.jsonl", lines), problems))
    assert problems.count == 0
    assert [r.id for r in records] == ["7/0", "7/1", "d.jsonl:2", "d.jsonl:3"]
    assert [r.question for r in records] == ["What?", "Sure?", "No mark?", "At the end?"]
    assert [r.answers for r in records] == [("red",), ("yes",), ("blue",), ("no",)]
    assert records[1].history == (("What?", "red"),)
    assert [t.role for t in records[1].conversation()] == ["user", "assistant", "user"]
    assert records[2].picture.load().shape == (20, 20, 3)
    assert records[2].group == "g"


def test_bad_lines_are_reported_by_number_and_skipped(pictures):
    good = {"image": "a.png", "conversations": said("Q?", "a")}
    bad = [
        "{broken\n", "[1, 2]\n", "\xff\n", "[" * 100_000 + "\n",
        {**good, "image": "missing.png"}, {**good, "image": "../outside.png"},
        {**good, "image": "/etc/passwd"}, {**good, "image": "text.png"}, {**good, "image": ""},
        {**good, "image": 3.5}, {**good, "image": "a" * 5000}, {**good, "image": "a\0.png"},
        {"image": "a.png"}, {"conversations": said("Q?", "a")},
        {**good, "image": ["a.png", "b.jpg"]}, {**good, "image": []}, {**good, "conversations": []},
        {**good, "conversations": ["x"]},
        {**good, "conversations": said("Q?")}, {**good, "conversations": said("<image>", "a")},
        {**good, "conversations": said("<image><image>Q?", "a")},
        {**good, "conversations": said("Q?", "a", "<image>", "b")},
        {**good, "conversations": [{"from": "alien", "value": "x"}]},
        {**good, "conversations": [{"from": "human", "value": None}]},
        {**good, "conversations": said("Q?", "a")[::-1]},
        {**good, "evidence_px": [1, 2, 3]}, {**good, "evidence_px": [5, 5, 1, 1]},
        {**good, "needs_detail": "yes"},
    ]  # fmt: skip
    path = write_lines(pictures / "d.jsonl", [good, *bad, good])
    problems = Problems()
    records = list(read_records(path, problems))
    assert len(records) == 2
    assert problems.count == len(bad)
    assert len(problems.first) == KEPT
    assert problems.first[0].startswith("d.jsonl:2: the line is no JSON")
    assert "d.jsonl:7: the image lies outside the image folder: '../outside.png'" in problems.first
    assert str(problems).startswith(f"{len(bad)} records were skipped")


def test_a_link_out_of_the_folder_is_no_way_out(pictures):
    (pictures / "link.png").symlink_to(pictures.parent / "outside.png")
    path = write_lines(
        pictures / "d.jsonl", [{"image": "link.png", "conversations": said("Q?", "a")}]
    )
    problems = Problems()
    assert list(read_records(path, problems)) == []
    assert "outside the image folder" in problems.first[0]
    assert len(list(read_records(path, Problems(), image_root=pictures.parent))) == 0


def test_a_json_list_is_read_and_anything_else_refused(pictures):
    good = {"image": "a.png", "conversations": said("Q?", "a")}
    path = pictures / "d.json"
    path.write_text(json.dumps([good, 5]))
    problems = Problems()
    assert len(list(read_records(path, problems))) == 1
    assert problems.first == ["d.json: item 1: the item is no JSON object"]
    for text in ('{"a": 1}', "nonsense"):
        path.write_text(text)
        with pytest.raises(InvalidRequest, match=r"d\.json"):
            list(read_records(path, Problems()))


def test_own_data_sets_keep_group_and_evidence(tmp_path):
    list(write_dataset(tmp_path, "val", 0, 3))
    problems = Problems()
    records = list(read_records(tmp_path, problems))
    stored = [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()]
    assert problems.count == 0
    assert [r.question for r in records] == [s["question"] for s in stored]
    assert [r.evidence_px and list(r.evidence_px) for r in records] == [
        s["evidence_px"] for s in stored
    ]
    assert {r.group for r in records} <= {"detail", "print", "coarse"}
    assert {"code", "which"} <= {r.kind for r in records}


def test_bad_lines_of_own_data_sets_are_skipped(pictures):
    good = {"image": "a.png", "question": "Q?", "answer": 5, "history": [["Before?", "yes"]]}
    bad = [
        {**good, "answer": None}, {**good, "answer": [[]]}, {**good, "question": " "},
        {**good, "question": True}, {**good, "history": "x"}, {**good, "history": [["Q"]]},
        {**good, "history": [["Q", 1]]}, {**good, "image": None},
    ]  # fmt: skip
    problems = Problems()
    records = list(read_records(write_lines(pictures / "d.jsonl", [good, *bad]), problems))
    assert [r.answers for r in records] == [("5",)]
    assert records[0].history == (("Before?", "yes"),)
    assert problems.count == len(bad)


def test_pictures_are_upright(pictures):
    image, exif = Image.new("RGB", (40, 20)), Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(pictures / "turned.jpg", exif=exif)
    (record,) = read_records(
        write_lines(
            pictures / "d.jsonl", [{"image": "turned.jpg", "question": "Q?", "answer": "a"}]
        ),
        Problems(),
    )
    assert record.picture.load().shape == (40, 20, 3)


def stage1_item(**fields) -> dict:
    item = {
        "uid": 1, "dataset": "gqa", "mode": "natural", "prompt": "Q?", "text": "a",
        "image": "a.png",
        "grounding_attn_o2i": np.full((4, 5), 0.5, np.float16), "sink_attn": np.zeros((4, 5)),
    }  # fmt: skip
    return {**item, **fields}


def test_stage1_pickles_give_attention_maps(pictures):
    bad = [
        5, {3: 4}, stage1_item(image="missing.png"), stage1_item(prompt=""),
        stage1_item(grounding_attn_o2i=[[1.0]]), stage1_item(sink_attn=np.zeros((2, 2))),
        stage1_item(grounding_attn_o2i=np.full((2, 2), np.nan), sink_attn=None),
        stage1_item(grounding_attn_o2i=np.zeros((0, 4)), sink_attn=None),
    ]  # fmt: skip
    path = pictures / "s.pkl"
    path.write_bytes(pickle.dumps([stage1_item(), *bad, stage1_item(sink_attn=None)]))
    problems = Problems()
    samples = list(read_stage1(path, problems))
    assert problems.count == len(bad)
    assert [s.attention.shape for s in samples] == [(4, 5), (4, 5)]
    assert samples[0].attention.dtype == np.float32
    assert samples[1].sinks.sum() == 0
    assert (samples[0].record.question, samples[0].record.group) == ("Q?", "gqa")
    assert len(list(read_records(path, Problems(), "stage1"))) == 2


def test_stage3_pickles_give_trajectories(pictures):
    good = {
        "id": "x", "image": "a.png", "prompt": "Q?", "text": "a", "res": [64, 256, 576],
        "ms_answers": ["b", "a", "a"],
    }  # fmt: skip
    items = {
        "x": good,
        "short": {**good, "ms_answers": ["b"]},
        "down": {**good, "res": [576, 256, 64]},
        "none": {**good, "res": [], "ms_answers": []},
        "odd": {**good, "res": "abc"},
        "array": {**good, "res": np.array([64, 256, 576])},
    }
    path = pictures / "s.pickle"
    path.write_bytes(pickle.dumps(items))
    problems = Problems()
    samples = list(read_stage3(path, problems))
    assert [s.max_tokens for s in samples] == [(64, 256, 576)] * 2
    assert samples[0].answers == ("b", "a", "a")
    assert problems.count == 4
    with pytest.raises(InvalidRequest, match="stage 1 is a list"):
        list(read_stage1(path, Problems()))


def test_a_hostile_pickle_ends_the_reading_with_its_name(pictures):
    path = pictures / "s.pkl"
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InvalidRequest, match=r"s\.pkl: the pickle asks for code: os\.system"):
        list(read_stage1(path, Problems()))


def png(colour: str) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def rows() -> "pa.Table":
    image = pa.array(
        [{"bytes": png("red"), "path": None}, {"bytes": None, "path": "a.png"},
         {"bytes": b"junk", "path": None}, None],
        type=pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )  # fmt: skip
    return pa.table(
        {"image": image, "question": ["Q0", "Q1", "Q2", "Q3"], "answers": [["a", "b"]] * 4}
    )


def test_parquet_folders_are_read_by_split(pictures):
    (pictures / "data").mkdir()
    pq.write_table(rows(), pictures / "data" / "test-00000-of-00001.parquet")
    pq.write_table(rows().slice(0, 1), pictures / "data" / "train-00000-of-00001.parquet")
    problems = Problems()
    records = list(read_records(pictures, problems, split="test"))
    assert [r.question for r in records] == ["Q0", "Q1"]
    assert records[0].picture.load()[0, 0].tolist() == [255, 0, 0]
    assert records[1].picture.load().shape == (30, 40, 3)
    assert [p.split(": ")[0] for p in problems.first] == [
        "test-00000-of-00001.parquet:2", "test-00000-of-00001.parquet:3",
    ]  # fmt: skip
    assert len(list(read_records(pictures, Problems()))) == 3
    with pytest.raises(InvalidRequest, match="no Parquet file of split 'val'"):
        list(read_records(pictures, Problems(), split="val"))


def test_what_save_to_disk_wrote_is_read(pictures):
    split = pictures / "test"
    split.mkdir()
    path = str(split / "data-00000-of-00001.arrow")
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, rows().schema) as writer:
        writer.write_table(rows())
    (split / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]})
    )
    (pictures / "dataset_dict.json").write_text('{"splits": ["test"]}')
    records = list(read_records(pictures, Problems(), split="test"))
    assert [r.question for r in records] == ["Q0", "Q1"]
    (split / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../../x.arrow"}]}))
    with pytest.raises(InvalidRequest, match="outside of the folder"):
        list(read_records(split, Problems()))


def test_a_broken_parquet_file_is_named(pictures):
    (pictures / "x.parquet").write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        list(read_records(pictures, Problems()))


def test_base64_columns_are_pictures(pictures):
    text = base64.b64encode(png("lime") + b"\0" * 1000).decode()
    pq.write_table(
        pa.table({"image": [text], "question": ["Q"], "answer": [4]}), pictures / "x.parquet"
    )
    (record,) = read_records(pictures / "x.parquet", Problems())
    assert record.picture.load()[0, 0].tolist() == [0, 255, 0]
    assert record.answers == ("4",)


def test_formats_are_told_apart_by_name(pictures):
    (pictures / "x.pkl").touch()
    (pictures / "x.csv").touch()
    with pytest.raises(InvalidRequest, match="stage1 or of stage3"):
        detect_format(pictures / "x.pkl")
    with pytest.raises(InvalidRequest, match=r"\.csv"):
        detect_format(pictures / "x.csv")
    with pytest.raises(NotFound, match="neither"):
        detect_format(pictures)
    with pytest.raises(NotFound):
        detect_format(pictures / "nothing")


def test_the_command_counts_records_and_names_bad_ones(pictures):
    good = {"image": "a.png", "question": "Q?", "answer": "a", "group": "g"}
    path = write_lines(pictures / "d.jsonl", [good, {**good, "group": "h"}])
    run = CliRunner().invoke(app, ["data", "check", str(path)])
    assert run.exit_code == 0, run.output
    assert "2 records, 2 with an answer" in run.output
    write_lines(path, [good, {**good, "image": "gone.png"}])
    run = CliRunner().invoke(app, ["data", "check", str(path)])
    assert run.exit_code == 1
    assert "1 record was skipped (1 x the image is missing)" in run.output
    assert "d.jsonl:2: the image is missing: gone.png" in run.output
    assert CliRunner().invoke(app, ["data", "check", "nowhere"]).exit_code == 2
