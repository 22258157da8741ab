import pytest

from qzoom.contracts.sampling import Sampling
from qzoom.model.generation import Generation
from qzoom.model.random_tokenizer import random_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return random_tokenizer("qwen2_5_vl")


def generate(tokenizer, text, *, eos=True, max_tokens=50, room=None, stop=()):
    sampling = Sampling(max_tokens=max_tokens, stop=stop)
    eos_id = tokenizer.eos_token_id
    generation = Generation(0, sampling, tokenizer, [eos_id], max_tokens=room)
    ids = [*tokenizer.encode(text), *([eos_id] if eos else [])]
    pieces = []
    for token_id in ids:
        pieces.append(generation.add(token_id))
        if generation.finish is not None:
            break
    return generation, "".join(pieces), ids


def test_an_end_token_stops_the_answer_and_is_not_text(tokenizer):
    generation, text, ids = generate(tokenizer, "red box")
    assert (text, generation.finish, generation.ids) == ("red box", "stop", ids)


def test_max_tokens_ends_the_answer(tokenizer):
    generation, text, ids = generate(tokenizer, "abcdef", eos=False, max_tokens=3)
    assert (generation.finish, generation.ids) == ("length", ids[:3])
    assert text == tokenizer.decode(ids[:3])


def test_the_end_token_at_the_limit_counts_as_stop(tokenizer):
    ids = tokenizer.encode("ab")
    generation, _, _ = generate(tokenizer, "ab", max_tokens=len(ids) + 1)
    assert generation.finish == "stop"


def test_the_room_of_the_slot_limits_the_answer(tokenizer):
    generation, _, ids = generate(tokenizer, "abcdef", eos=False, room=2)
    assert (generation.finish, generation.ids) == ("length", ids[:2])


def test_a_stop_text_ends_the_answer_before_it(tokenizer):
    generation, text, _ = generate(tokenizer, "the code is 12, and more", stop=(", and",))
    assert (text, generation.finish) == ("the code is 12", "stop")


def test_what_might_have_been_a_stop_text_comes_out_at_the_end(tokenizer):
    _, text, _ = generate(tokenizer, "wait, a", stop=(", and",))
    assert text == "wait, a"


def test_nothing_can_be_added_to_an_ended_answer(tokenizer):
    generation, _, _ = generate(tokenizer, "a")
    with pytest.raises(AssertionError):
        generation.add(5)
