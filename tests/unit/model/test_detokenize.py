"""Streamed pieces add up to the whole answer, and stop texts never leak."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qzoom.model.detokenize import Detokenizer, StopScanner
from qzoom.model.random_tokenizer import random_tokenizer

TOKENIZERS = {family: random_tokenizer(family) for family in ("qwen2_5_vl", "llava")}
texts = st.text(max_size=12)


def stream(tokenizer, ids, stop=()):
    """Pieces up to the end, and whether a stop text ended the answer."""
    detokenizer = Detokenizer(tokenizer, stop)
    pieces = []
    for token in ids:
        text, has_stopped = detokenizer.add(token)
        pieces.append(text)
        if has_stopped:
            return pieces, True
    return [*pieces, detokenizer.finish()], False


@settings(max_examples=300)
@given(data=st.data())
@pytest.mark.parametrize("family", TOKENIZERS)
def test_pieces_of_any_tokens_add_up(family, data):
    tokenizer = TOKENIZERS[family]
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=24))

    pieces, _ = stream(tokenizer, ids)
    whole = tokenizer.decode(ids, skip_special_tokens=True)
    if family == "llava" and "\ufffd" in whole:
        # One bad byte spoils its whole run there, after some of it has been streamed: nothing that
        # survives may be missing from the stream.
        streamed = iter("".join(pieces))
        assert all(char in streamed for char in whole.replace("\ufffd", ""))
    else:
        assert "".join(pieces) == whole


def test_a_bad_byte_does_not_spoil_what_came_before_it():
    tokenizer = TOKENIZERS["llava"]
    euro = [tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in (0xE2, 0x82, 0xAC)]

    assert "".join(stream(tokenizer, euro * 2)[0]) == "\u20ac\u20ac"
    assert "".join(stream(tokenizer, [*euro, euro[0]])[0]) == "\u20ac\ufffd"


@settings(max_examples=200)
@given(text=texts)
@pytest.mark.parametrize("family", TOKENIZERS)
def test_no_piece_holds_half_a_character(family, text):
    tokenizer = TOKENIZERS[family]
    ids = tokenizer.encode(text.replace("\ufffd", ""), add_special_tokens=False)

    pieces, _ = stream(tokenizer, ids)
    assert all("\ufffd" not in piece for piece in pieces)


@pytest.mark.parametrize("family", TOKENIZERS)
def test_text_leaves_as_soon_as_it_is_certain(family):
    tokenizer = TOKENIZERS[family]
    ids = tokenizer.encode("red code \u20ac5", add_special_tokens=False)
    detokenizer = Detokenizer(tokenizer)

    seen = ""
    for count, token in enumerate(ids, start=1):
        seen += detokenizer.add(token)[0]
        whole = tokenizer.decode(ids[:count], skip_special_tokens=True)
        assert seen == whole.rstrip("\ufffd")
    assert seen == tokenizer.decode(ids)


def test_bytes_that_never_become_a_character_come_at_the_end():
    tokenizer = TOKENIZERS["llava"]
    lead = tokenizer.convert_tokens_to_ids("<0xE2>")

    assert stream(tokenizer, [lead]) == (["", "\ufffd"], False)


pieces_lists = st.lists(st.text("ab\n", max_size=4), max_size=8)
stops = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


@settings(max_examples=500)
@given(pieces=pieces_lists, stop=stops)
def test_scanner_equals_searching_the_whole_text(pieces, stop):
    scanner = StopScanner(stop)
    out, seen, stopped = "", "", False
    for piece in pieces:
        text, stopped = scanner.add(piece)
        out, seen = out + text, seen + piece
        if stopped:
            break
        held = seen[len(out) :]
        assert held == "" or any(s.startswith(held) for s in stop), "held back without need"
    if not stopped:
        out += scanner.finish()

    # The first stop text to be complete ends the answer, where it begins.
    ends = [(seen.find(s) + len(s), s) for s in stop if s in seen]
    assert stopped == bool(ends)
    cut = min((seen.find(s) for s in stop if s in seen), default=len(seen))
    assert out == seen[:cut]


def test_nothing_follows_a_stop_text():
    tokenizer = TOKENIZERS["qwen2_5_vl"]
    ids = tokenizer.encode("the code is red", add_special_tokens=False)

    pieces, has_stopped = stream(tokenizer, ids, stop=("code",))
    assert has_stopped
    assert "".join(pieces) == "the "
    scanner = StopScanner(["x"])
    assert scanner.add("axb") == ("a", True)
    assert (scanner.add("c"), scanner.finish()) == (("", True), "")


def test_stop_text_may_end_the_answer_in_its_last_held_piece():
    tokenizer = TOKENIZERS["llava"]
    detokenizer = Detokenizer(tokenizer, ["\ufffd"])
    detokenizer.add(tokenizer.convert_tokens_to_ids("<0xE2>"))

    assert detokenizer.finish() == ""


def test_empty_stop_text_is_refused():
    with pytest.raises(ValueError, match="must not be empty"):
        StopScanner(["a", ""])
