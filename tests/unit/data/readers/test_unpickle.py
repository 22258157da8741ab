import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from qzoom.data.readers.problems import BadRecord
from qzoom.data.readers.unpickle import MAX_DEPTH, load_plain


def load(tmp_path: Path, data: bytes) -> object:
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    return load_plain(path)


class Calls:
    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["float16", "float32", ">f8", "int64", "bool", "uint8", "<U3"])
def test_arrays_of_every_protocol_come_back_equal(tmp_path, protocol, dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    for stored in (array, np.asfortranarray(array), array[:, ::2], array[0], array[:0]):
        loaded = load(tmp_path, pickle.dumps({"map": stored}, protocol))
        np.testing.assert_array_equal(loaded["map"], stored)
        assert loaded["map"].dtype == stored.dtype
        assert loaded["map"].flags.writeable


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol_comes_back_equal(tmp_path, protocol):
    data = [
        {"a": (1, 2.5, None, True), "b": b"\xff\0", "c": "naïve", 3: [[], {}]},
        {1, 2}, frozenset({"x"}), bytearray(b"yz"), 1 + 2j, 1 << 100, -5, np.float32(0.25),
        np.int64(7),
    ]  # fmt: skip
    assert load(tmp_path, pickle.dumps(data, protocol)) == data


def test_shared_parts_stay_shared_and_cheap(tmp_path):
    laughs: list = ["ha"]
    for _ in range(MAX_DEPTH - 2):
        laughs = [laughs, laughs, laughs, laughs]  # 4^30 leaves, thirty objects
    loaded = load(tmp_path, pickle.dumps(laughs))
    assert loaded[0] is loaded[3]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("function", "args"),
    [
        (os.system, ("touch hacked",)), (eval, ("1+1",)), (exec, ("import os",)),
        (open, ("x", "w")),
        (getattr, ([], "__class__")), (io.BytesIO, (b"",)), (type, ("T", (), {})), (ascii, ("hi",)),
        (bytes, (10**12,)), (list, (range(10),)), (np.zeros, (10**10,)), (np.load, ("x.npy",)),
        (np.fromfile, ("x",)),
        (Path, ("x",)), (__import__, ("os",)),
    ],
)  # fmt: skip
def test_names_that_plain_data_does_not_need_are_refused(
    tmp_path, monkeypatch, protocol, function, args
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadRecord, match=r"asks for code|broken|plain data"):
        load(tmp_path, pickle.dumps([Calls(function, *args)], protocol))
    assert [f.name for f in tmp_path.iterdir()] == ["x.pkl"]


def program(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


TEXT = b"U\x02f4"  # a short text
HOSTILE = {
    "length that the file does not have": program(b"\x8e" + struct.pack("<Q", 1 << 50) + b"x"),
    "negative length": program(b"T" + struct.pack("<i", -5)),
    "array of a terabyte": program(
        name("numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray"),
        b"(J\xff\xff\xff\x7ftU\x01b\x87R",  # shape (2**31 - 1,)
        b"(K\x01(J\xff\xff\xff\x7ft", name("numpy", "dtype"), b"(U\x02f8I0\nI1\ntR",
        b"I0\nU\x04abcdtb",
    ),
    "array of objects": pickle.dumps(np.array([[], {}], dtype=object)),
    "array of structs": pickle.dumps(np.zeros(2, dtype=[("a", "f4")])),
    "array of void": pickle.dumps(np.zeros(2, dtype="V4")),
    "dates": pickle.dumps(np.zeros(2, dtype="M8[s]")),
    "dtype of a made up name": program(name("numpy", "dtype"), b"U\x05whatn\x85R"),
    "dtype alone": program(name("numpy", "dtype"), TEXT, b"\x85R"),
    "class alone": program(name("numpy", "ndarray")),
    "set of a number": program(name("builtins", "set"), b"J\xff\xff\xff\x7f\x85R"),
    "bytearray of a number": program(name("builtins", "bytearray"), b"J\xff\xff\xff\x7f\x85R"),
    "codec that unpacks": program(name("_codecs", "encode"), b"U\x01xU\x04zlib\x86R"),
    "attributes set on what may be called": program(
        name("builtins", "set"), b"N}U\x05_makeNs\x86b"
    ),
    "dictionary of what may be called": program(
        name("builtins", "set"), b"}U\x08__doc__xNsb"
    ),
    "new object of what may be called": program(name("builtins", "set"), b")\x81"),
    "attribute of a name": program(b"\x8c\x08builtins\x8c\x0cset.__init__\x93"),
    "persistent id": program(b"Pwhat\n"),
    "extension code": program(b"\x82\x01"),
    "list in itself": program(b"]\x94h\x00a"),
    "unhashable key": program(b"}]Ns"),
    "no stop": b"\x80\x04]",
    "stop with nothing": b".",
    "unknown opcode": b"\x80\x04\xff.",
    "later protocol": b"\x80\x7fN.",
    "number of too many digits": b"I" + b"9" * 10_000 + b"\n.",
    "not a pickle": b"\x89PNG\r\n",
    "empty": b"",
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_programs_end_as_bad_records(tmp_path, what):
    with pytest.raises(BadRecord):
        load(tmp_path, HOSTILE[what])


def test_a_large_memo_index_or_frame_asks_for_no_memory(tmp_path):
    assert load(tmp_path, program(b"]", b"r" + struct.pack("<I", 2**31 - 1))) == []
    assert load(tmp_path, b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.") is None


def test_deep_nesting_is_refused(tmp_path):
    data = program(b"]" * 100_000 + b"a" * 99_999)
    with pytest.raises(BadRecord, match="nests deeper"):
        load(tmp_path, data)


def test_what_may_be_called_is_not_changed_by_a_program(tmp_path):
    for data in HOSTILE.values():
        with pytest.raises(BadRecord):
            load(tmp_path, data)
    assert load(tmp_path, pickle.dumps({1}, 2)) == {1}


def test_every_cut_of_a_good_file_is_a_bad_record(tmp_path):
    whole = pickle.dumps([{"m": np.ones((2, 2), np.float16), "t": "text", "s": {1}}], 4)
    for end in range(len(whole) - 1):
        with pytest.raises(BadRecord):
            load(tmp_path, whole[:end])


def test_random_changes_never_escape(tmp_path):
    whole = bytearray(pickle.dumps([{"m": np.ones((2, 2), np.float16), "s": {1}}], 4))
    rng = np.random.default_rng(0)
    failures = 0
    for _ in range(2000):
        changed = bytearray(whole)
        for at in rng.integers(0, len(whole), size=rng.integers(1, 4)):
            changed[at] = rng.integers(256)
        try:
            load(tmp_path, bytes(changed))
        except BadRecord:
            failures += 1
    assert failures > 500
