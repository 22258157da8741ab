import json
import pickle

import numpy as np
import pytest
from PIL import Image

from qzoom.contracts.conversation import Picture, Text, Turn
from qzoom.data.dataset import write_dataset
from qzoom.data.readers import Problems
from qzoom.data.record import PictureFile, Record
from qzoom.data.records import open_records
from qzoom.errors import InvalidRequest, NotFound, UnsupportedMedia


def test_a_written_data_set_reads_as_the_generator_draws_it(tmp_path):
    list(write_dataset(tmp_path, "val", 3, 2))
    drawn, read = open_records("builtin:val?seed=3&count=2"), open_records(str(tmp_path))
    assert len(drawn) == len(read) > 4
    for a, b in zip(drawn, read, strict=True):
        assert (a.question, a.answers, a.group, a.needs_detail) == (
            b.question,
            b.answers,
            b.group,
            b.needs_detail,
        )
        assert (a.evidence_px is None) == (b.evidence_px is None)
    np.testing.assert_array_equal(drawn[0].picture.load(), read[0].picture.load())
    assert len({r.id for r in drawn}) == len(drawn)
    assert len({r.id for r in read}) == len(read)


def test_the_picture_comes_before_the_first_question():
    record = Record("1", PictureFile("x"), "And now?", history=(("What is it?", "a cat"),))
    assert record.conversation(" Briefly.") == (
        Turn("user", (Picture(0), Text("What is it? Briefly."))),
        Turn("assistant", (Text("a cat"),)),
        Turn("user", (Text("And now? Briefly."),)),
    )


@pytest.mark.parametrize("name", ["builtin:dev", "builtin:val?sed=1", "builtin:val?count=-3"])
def test_a_misspelt_name_is_refused(name):
    with pytest.raises(InvalidRequest):
        open_records(name)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(NotFound):
        open_records(str(tmp_path))
    file, problems = tmp_path / "x.jsonl", Problems()
    good = {"image": "a.png", "question": "?", "answer": "1"}
    file.write_text(f"{json.dumps(good)}\n{{}}\n{json.dumps(good)}\n")
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(InvalidRequest, match=r"x\.jsonl:2"):
        open_records(str(file))
    assert len(open_records(str(file), problems)) == 2
    assert problems.count == 1
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(UnsupportedMedia, match=r"a\.png"):
        PictureFile(tmp_path / "a.png").load()


def test_a_format_may_be_named(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([]))
    assert open_records(f"stage1:{tmp_path / 'x.pkl'}") == []
