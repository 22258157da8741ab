import pytest
import torch

from qzoom.errors import Overloaded, TooLarge
from qzoom.model.attention import PackedAttention
from qzoom.model.cache import SlotCache, SlotDecode, SlotSegments


@pytest.fixture
def cache():
    return SlotCache(
        2,
        3,
        16,
        num_kv_heads=2,
        head_size=4,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


def test_slots_are_given_lowest_first_and_taken_back(cache):
    assert [cache.alloc(), cache.alloc()] == [0, 1]
    cache.free(0)
    assert cache.num_free == 2
    assert [cache.alloc(), cache.alloc()] == [0, 2]


def test_more_requests_than_slots_are_refused(cache):
    for _ in range(3):
        cache.alloc()
    with pytest.raises(Overloaded, match="3 KV slots"):
        cache.alloc()


@pytest.mark.parametrize("slot", [0, -1, 3])
def test_a_slot_cannot_be_freed_twice(cache, slot):
    with pytest.raises(ValueError, match=f"slot {slot}"):
        cache.free(slot)


def test_a_prompt_must_leave_room_for_an_answer(cache):
    cache.check_fits(15)
    with pytest.raises(TooLarge, match=r"16 tokens.*at most 15"):
        cache.check_fits(16)


def test_memory_is_bounded_by_slots_times_positions(cache):
    assert cache.num_bytes == 2 * 2 * 3 * 2 * 16 * 4 * 4


def reference(q, k, v):
    """Causal attention in plain arithmetic; the queries are the last of the keys' tokens."""
    group = q.shape[0] // k.shape[0]
    k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
    past = k.shape[1] - q.shape[1]
    future = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).triu(past + 1)
    return (scores.masked_fill(future, -torch.inf).softmax(-1) @ v).transpose(0, 1)


def random_qkv(length):
    return torch.randn(4, length, 4), torch.randn(2, length, 4), torch.randn(2, length, 4)


def test_packed_requests_do_not_see_each_other():
    torch.manual_seed(0)
    parts = [random_qkv(n) for n in (5, 1, 7)]
    packed = [torch.cat(tensors, dim=1) for tensors in zip(*parts, strict=True)]
    attention = PackedAttention([5, 1, 7], device=torch.device("cpu"))
    expected = torch.cat([reference(*part) for part in parts])
    assert torch.allclose(attention.attend(0, *packed), expected, atol=1e-6)
    rows = attention.last_rows()
    last = attention.for_last_rows(0, packed[1], packed[2])
    mixed = last.attend(0, packed[0][:, rows], packed[1][:, rows], packed[2][:, rows])
    assert torch.allclose(mixed, expected[rows], atol=1e-6)


def test_packed_requests_continue_after_their_own_past(cache):
    torch.manual_seed(1)
    slots, pasts, lengths = [2, 0], [4, 0], [3, 5]
    whole = [random_qkv(past + n) for past, n in zip(pasts, lengths, strict=True)]
    for slot, past, (_, k, v) in zip(slots, pasts, whole, strict=True):
        cache.kv[1, 0, slot, :, :past], cache.kv[1, 1, slot, :, :past] = k[:, :past], v[:, :past]
    fresh = [
        torch.cat([part[i][:, past:] for part, past in zip(whole, pasts, strict=True)], dim=1)
        for i in range(3)
    ]
    store = SlotSegments(cache, slots, pasts, lengths)
    attention = PackedAttention(lengths, pasts=pasts, store=store, device=torch.device("cpu"))
    expected = torch.cat(
        [reference(q[:, past:], k, v) for (q, k, v), past in zip(whole, pasts, strict=True)]
    )
    assert torch.allclose(attention.attend(1, *fresh), expected, atol=1e-6)
    assert torch.equal(cache.kv[1, 0, 2, :, :7], whole[0][1])
    assert torch.equal(cache.kv[1, 1, 0, :, :5], whole[1][2])
    assert not cache.kv[0].any()


@pytest.mark.parametrize("slots", [[0, 1, 2], [2, 0], [1]])
def test_decoding_reads_only_the_slot_s_own_past(cache, slots):
    torch.manual_seed(2)
    cache.kv[:] = torch.randn(cache.kv.shape)
    cache.lengths = [3, 9, 6]
    q, k, v = random_qkv(len(slots))
    before = cache.kv.clone()
    mixed = SlotDecode(cache, slots).attend(1, q, k, v)
    for row, slot in enumerate(slots):
        n = cache.lengths[slot]
        keys = torch.cat([before[1, 0, slot, :, :n], k[:, row : row + 1]], dim=1)
        values = torch.cat([before[1, 1, slot, :, :n], v[:, row : row + 1]], dim=1)
        expected = reference(q[:, row : row + 1], keys, values)[0]
        assert torch.allclose(mixed[row], expected, atol=1e-6)
        assert torch.equal(cache.kv[1, 0, slot, :, : n + 1], keys)
    changed = (cache.kv != before).any(dim=(0, 1, 3, 5))
    assert {(s, cache.lengths[s]) for s in slots} == set(map(tuple, changed.nonzero().tolist()))
