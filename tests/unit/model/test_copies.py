"""State leaves a stage with one copy and enters the next with one copy; nothing is pickled."""

import pickle

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from qzoom.contracts.conversation import single_question
from qzoom.model.handoff import pack_part, unpack_state
from qzoom.model.pipeline import Pipeline
from qzoom.model.prefill import PrefillInput
from qzoom.model.random_checkpoint import write_random_checkpoint

BUDGET = {"coarse_min_tokens": 16, "coarse_max_tokens": 36, "roi_min_tokens": 4}


class CopiedBytes(TorchDispatchMode):
    """Counts the bytes that tensor operations write."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        is_view = function.is_view or "_unsafe_view" in str(function)
        if isinstance(result, torch.Tensor) and not is_view and "empty" not in str(function):
            self.count += result.numel() * result.element_size()
        return result


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("random")
    write_random_checkpoint(folder, "qwen2_5_vl", **BUDGET)
    return Pipeline.open(folder)


@pytest.fixture(scope="module")
def state(pipeline):
    """The state of the second of two requests that were prefilled together."""
    inputs = []
    for width in (200, 280):
        pixels = torch.full((140, width, 3), 90, dtype=torch.uint8).numpy()
        visual = pipeline.encoder.encode([pipeline.encoder.prepare_coarse(pixels)])
        question = single_question("What is on the red sign?")
        prompt = pipeline.gate.tokenize(question, [visual[0].grid], [(width, 140)])
        inputs.append(PrefillInput(prompt, visual))
    return pipeline.gate.run(inputs)[1].state


def test_what_a_prefill_returns_lies_in_its_buffers_already(state):
    with CopiedBytes() as copied:
        bundles = [pack_part(part) for part in (*state.blocks, state.suffix)]
    assert copied.count == 0
    for (header, buffer), part in zip(bundles, (*state.blocks, state.suffix), strict=True):
        assert part.kv.data_ptr() == buffer.ctypes.data
        assert header.num_bytes == len(buffer)


def test_the_buffers_leave_the_process_without_pickling(state):
    _, buffer = pack_part(state.blocks[0])
    outside = []
    message = pickle.dumps(buffer, protocol=5, buffer_callback=outside.append)
    assert [len(one.raw()) for one in outside] == [len(buffer)]
    assert len(message) < 300


def test_keys_and_values_are_copied_once_into_the_llm_s_cache(state, pipeline):
    blocks = [pack_part(block) for block in state.blocks]
    cache = pipeline.decoder.new_cache(1, 200)
    length, layers = len(state.prompt.ids), pipeline.checkpoint.qzoom.split_layer
    with CopiedBytes() as copied:
        received = unpack_state(state.prompt, blocks, pack_part(state.suffix))
        received.copy_kv(cache.kv[:layers, :, 0], 0, length)
    parts = (*state.blocks, state.suffix)
    assert copied.count == sum(part.kv.numel() * part.kv.element_size() for part in parts)
    whole = torch.cat([part.kv for part in parts], dim=-2)
    assert torch.equal(cache.kv[:layers, :, 0, :, :length], whole)


def test_the_counter_sees_a_copy():
    with CopiedBytes() as copied:
        torch.zeros(10).clone()
        torch.empty(4).copy_(torch.ones(4))
    assert copied.count == 4 * (10 + 10 + 4 + 4)
