"""What is kept, for how long, and who computes what in a batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qzoom.contracts.stages import ImageSpan, Prompt
from qzoom.serving.prefixes import ByteLru, Chain, PrefixCache, SharedBatch, usable


def prompt_of(num_tokens, *ends):
    spans = tuple(ImageSpan(i, end - 1, (1, 1), (28, 28)) for i, end in enumerate(ends))
    return Prompt(np.zeros(num_tokens, np.int32), np.zeros((3, num_tokens), np.float32), spans)


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 6))),
    st.integers(0, 12),
)
def test_the_bound_is_never_passed_and_the_newest_stays(puts, max_bytes):
    cache = ByteLru(max_bytes)
    for name, size in puts:
        cache.put(name.encode(), name, size)
        assert cache.num_bytes <= max_bytes
        assert (cache.get(name.encode()) == name) == (size <= max_bytes and max_bytes > 0)


def test_what_was_not_used_for_longest_goes_first():
    cache = ByteLru(3)
    for key in (b"a", b"b", b"c"):
        cache.put(key, key, 1)
    cache.get(b"a")
    cache.put(b"d", b"d", 1)
    assert [cache.get(key) for key in (b"a", b"b", b"c", b"d")] == [b"a", None, b"c", b"d"]
    cache.discard(b"a")
    assert (cache.get(b"a"), cache.num_bytes, len(cache)) == (None, 2, 2)


def test_a_block_goes_before_the_blocks_that_it_needs():
    cache = PrefixCache(3, lambda _: 1)
    cache.put([b"1", b"2"], ["one", "two"])
    cache.find([b"1", b"2"])
    cache.put([b"x", b"y"], ["x", "y"])
    assert cache.find([b"1", b"2"]) == ["one"]
    assert cache.find([b"x", b"y"]) == ["x", "y"]


def test_a_block_is_of_no_use_without_the_one_before():
    cache = PrefixCache(10, lambda _: 1)
    cache.put([b"1", b"2"], ["one", "two"])
    assert cache.find([b"0", b"2"]) == []


def test_a_block_that_ends_the_prompt_leaves_nothing_to_compute():
    assert usable(prompt_of(5, 2, 5), (b"1", b"2")) == (b"1",)
    assert usable(prompt_of(6, 2, 5), (b"1", b"2")) == (b"1", b"2")


def run(cache, chains):
    """Compute a batch; return what each round computed, and what each request reused."""
    batch = SharedBatch(cache, chains)
    rounds, reused = [], {}
    for chosen in batch.rounds():
        rounds.append(sorted(chosen))
        for index, past in chosen.items():
            reused[index] = len(past)
            batch.learn(index, [key.decode() for key in chains[index].keys])
    return rounds, [reused[index] for index in range(len(chains))]


def test_requests_of_one_batch_share_their_blocks():
    a, ab = prompt_of(9, 3), prompt_of(9, 3, 6)
    chains = [
        Chain(a, (b"a",), ()),
        Chain(ab, (b"a", b"b"), ()),
        Chain(a, (b"c",), ()),
        Chain(ab, (b"a", b"b"), ()),
    ]
    rounds, reused = run(PrefixCache(10, lambda _: 1), chains)
    assert rounds == [[0, 2], [1], [3]]
    assert reused == [0, 1, 0, 2]


def test_blocks_that_never_fit_are_shared_within_a_batch():
    chains = [Chain(prompt_of(9, 3), (b"a",), ())] * 4
    rounds, reused = run(PrefixCache(1, lambda _: 5), chains)
    assert rounds == [[0], [1, 2, 3]]
    assert reused == [0, 1, 1, 1]


def test_where_nothing_is_kept_all_run_at_once():
    chains = [Chain(prompt_of(9, 3), (b"a",), ())] * 3
    rounds, reused = run(PrefixCache(0, lambda _: 1), chains)
    assert rounds == [[0, 1, 2]]
    assert reused == [0, 0, 0]


def test_what_was_found_on_arrival_may_be_evicted_meanwhile():
    cache = PrefixCache(10, lambda _: 1)
    (past,) = (
        past
        for c in SharedBatch(cache, [Chain(prompt_of(9, 3), (b"a",), ["a"])]).rounds()
        for past in c.values()
    )
    assert past == ["a"]


@pytest.mark.parametrize("found", [[], ["a"]])
def test_the_use_of_a_request_counts_tokens(found):
    batch = SharedBatch(PrefixCache(10, lambda _: 1), [Chain(prompt_of(9, 3, 7), (b"a", b"b"), ())])
    use = batch.use(0, found)
    assert (use.reused, use.computed) == ((3, 4) if found else (0, 7))
    assert use.is_hit == bool(found)
