import gc
import weakref

import numpy as np
import pytest
import torch

from qzoom.contracts.stages import ImageSpan, Prompt
from qzoom.model.handoff import (
    pack,
    pack_part,
    pack_visual,
    unpack,
    unpack_state,
    unpack_visual,
)
from qzoom.model.state import PrefillState, StatePart, VisualTokens


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_tensors_survive_the_trip_whatever_their_strides(dtype):
    tensors = {
        "odd": torch.randn(3, 5, 7).to(dtype),
        "turned": torch.randn(8, 6).to(dtype).T,
        "part": torch.randn(9, 9).to(dtype)[2:5, 1::2],
        "empty": torch.empty(2, 0, 4, dtype=dtype),
    }
    header, buffer = pack(tensors)
    assert buffer.dtype == np.uint8
    assert len(buffer) == header.num_bytes
    assert all(spec.offset % 64 == 0 for spec in header.tensors)
    for name, tensor in unpack(header, buffer).items():
        assert torch.equal(tensor, tensors[name])
        assert tensor.dtype == dtype


def test_a_read_only_buffer_is_viewed_without_a_copy():
    header, buffer = pack({"a": torch.arange(100.0)})
    buffer.flags.writeable = False
    tensor = unpack(header, buffer)["a"]
    assert tensor.data_ptr() == buffer.ctypes.data
    assert torch.equal(tensor, torch.arange(100.0))


def test_a_tensor_keeps_its_buffer_alive_and_no_longer():
    header, original = pack({"a": torch.arange(100.0)})
    alive = weakref.ref(original)
    tensor = unpack(header, original)["a"]
    del original
    gc.collect()
    assert alive() is not None
    assert tensor.sum() == 4950
    del tensor
    gc.collect()
    assert alive() is None


def test_a_buffer_of_another_length_is_refused():
    header, buffer = pack({"a": torch.arange(100.0)})
    with pytest.raises(ValueError, match="400 bytes"):
        unpack(header, buffer[:-1])


def test_only_floating_tensors_travel():
    with pytest.raises(ValueError, match="int64"):
        pack({"ids": torch.arange(3)})


def make_state(prompt):
    split, total = prompt.prefix_len, len(prompt.ids)
    kv, hidden = torch.randn(3, 2, 2, total, 4), torch.randn(total, 8)
    return PrefillState(
        prompt,
        (StatePart(kv[..., :split, :], hidden[:split]),) if split else (),
        StatePart(kv[..., split:, :], hidden[split:]),
    )


def prompt_of(*spans):
    return Prompt(np.zeros(12, np.int32), np.zeros((3, 12), np.float32), spans)


@pytest.mark.parametrize("spans", [(ImageSpan(0, 2, (2, 2), (9, 9)),), ()])
def test_a_prefill_state_survives_the_trip(spans):
    prompt = prompt_of(*spans)
    state = make_state(prompt)
    back = unpack_state(prompt, [pack_part(b) for b in state.blocks], pack_part(state.suffix))
    assert torch.equal(back.hidden(0, 12), state.hidden(0, 12))
    for part, sent in zip((*back.blocks, back.suffix), (*state.blocks, state.suffix), strict=True):
        assert torch.equal(part.kv, sent.kv)


def test_what_is_not_needed_is_not_opened():
    prompt = prompt_of(ImageSpan(0, 2, (2, 2), (9, 9)))
    state = make_state(prompt)
    (header, _), suffix = pack_part(state.blocks[0]), pack_part(state.suffix)
    back = unpack_state(prompt, [(header, None)], suffix)
    assert torch.equal(back.hidden(6, 12), state.suffix.hidden)
    with pytest.raises(AssertionError, match="tokens 0 to 6 is not here"):
        back.hidden(5, 12)


def test_a_state_of_another_prompt_is_refused():
    prompt = prompt_of(ImageSpan(0, 2, (2, 2), (9, 9)))
    state = make_state(prompt)
    blocks, suffix = [pack_part(state.blocks[0])], pack_part(state.suffix)
    with pytest.raises(ValueError, match="does not fit"):
        unpack_state(prompt_of(), blocks, suffix)


def test_visual_tokens_survive_the_trip():
    visual = VisualTokens((2, 3), torch.randn(4, 6, 8))
    back = unpack_visual((2, 3), *pack_visual(visual))
    assert (back.grid, back.num_tokens) == ((2, 3), 6)
    assert torch.equal(back.features, visual.features)


@pytest.mark.parametrize(("start", "end"), [(0, 3), (0, 6), (0, 9), (0, 12), (4, 8), (7, 12)])
def test_tokens_of_both_parts_are_copied_to_their_places(start, end):
    state = make_state(prompt_of(ImageSpan(0, 2, (2, 2), (9, 9))))
    target = torch.full((3, 2, 2, 20, 4), 7.0)
    state.copy_kv(target, start, end)
    whole = torch.cat([state.blocks[0].kv, state.suffix.kv], dim=-2)
    assert torch.equal(target[..., start:end, :], whole[..., start:end, :])
    assert (target[..., :start, :] == 7).all()
    assert (target[..., end:, :] == 7).all()
