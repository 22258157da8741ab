"""Nothing is recomputed in secret, and no stage holds what is not its own."""

import numpy as np
import pytest
import torch
from torch import nn

from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.model.decoder import Decoder
from qzoom.model.encoder import VisionEncoder
from qzoom.model.loading import open_checkpoint
from qzoom.model.parameters import count_parameters
from qzoom.model.pipeline import Pipeline
from qzoom.model.prefill import PrefillGate
from qzoom.model.rpn import RegionProposer
from qzoom.model.stack import TokenLayerCounter

pytestmark = pytest.mark.parity
NUM_TOKENS = 5
# The gate is asked, and its answer known: a route that is given would leave it out.
DIRECT, ZOOM = Options(tau_gate=1.0), Options(tau_gate=0.0, tau_roi=0.05)
BF16_ATOL = 0.05  # eight bits of mantissa, rounded once per operation and layer


@pytest.fixture
def counted(checkpoint):
    """Answer one question and count: `counted(options, trim)` -> answer, counters by stage."""

    def answer(picture, options, *, trim):
        counters = {name: TokenLayerCounter() for name in ("gate", "rpn", "llm")}
        pipeline = Pipeline(
            checkpoint,
            VisionEncoder.load(checkpoint),
            PrefillGate.load(checkpoint, trim=trim, counter=counters["gate"]),
            RegionProposer.load(checkpoint, counter=counters["rpn"]),
            Decoder.load(checkpoint, trim=trim, counter=counters["llm"]),
        )
        sampling = Sampling(max_tokens=NUM_TOKENS)
        question = single_question("What is the code?")
        return pipeline.answer(question, [picture], options, sampling), counters

    return answer


def test_the_direct_route_runs_every_layer_once(counted, checkpoint, picture):
    answer, counters = counted(picture(300, 140), DIRECT, trim=False)
    split, total = checkpoint.qzoom.split_layer, num_layers(checkpoint)
    tokens = answer.num_prompt_tokens  # N + q
    assert counters["gate"].total("lower") == tokens * split
    assert counters["gate"].total("gate") == tokens * checkpoint.qzoom.gate_depth
    assert not counters["rpn"].pairs
    assert counters["llm"].total("lower") == 0
    assert counters["llm"].total("upper") == tokens * (total - split)
    assert counters["llm"].total("decode") == (len(answer.ids) - 1) * total


def test_the_zoom_route_runs_only_the_tail_through_the_lower_layers(counted, checkpoint, picture):
    answer, counters = counted(picture(300, 140), ZOOM, trim=False)
    assert answer.route == "zoom"
    split, total = checkpoint.qzoom.split_layer, num_layers(checkpoint)
    delimiters = 0 if checkpoint.family == "llava" else 2
    whole = answer.num_prompt_tokens  # N + n' + q, with the RoI's delimiters
    coarse = whole - answer.num_roi_tokens - delimiters
    kept = first_span_end(coarse, counters, split, whole)
    assert counters["gate"].total("lower") == coarse * split
    assert counters["rpn"].total("rpn") == coarse * (checkpoint.qzoom.rpn_depth - 1)
    assert counters["llm"].total("lower") == (whole - kept) * split
    assert counters["llm"].total("upper") == whole * (total - split)
    # Everything before the end of the picture's tokens was reused, and the picture is there.
    assert answer.num_coarse_tokens < kept < coarse


def first_span_end(coarse, counters, split, whole):
    lower = counters["llm"].total("lower")
    assert lower % split == 0
    kept = whole - lower // split
    assert kept < coarse
    return kept


@pytest.mark.parametrize("options", [DIRECT, ZOOM], ids=["direct", "zoom"])
def test_trimming_saves_work_and_changes_nothing(counted, picture, options):
    full, all_pairs = counted(picture(300, 140), options, trim=False)
    lean, fewer_pairs = counted(picture(300, 140), options, trim=True)
    assert (lean.ids, lean.route) == (full.ids, full.route)
    assert lean.p_refine == pytest.approx(full.p_refine, abs=1e-6)
    for stage, counter in fewer_pairs.items():
        more = all_pairs[stage].pairs
        assert set(counter.pairs) == set(more)
        assert all(count <= more[pair] for pair, count in counter.pairs.items())
    assert fewer_pairs["llm"].total("upper") < all_pairs["llm"].total("upper")
    assert fewer_pairs["gate"].total("gate") < all_pairs["gate"].total("gate")


def test_each_stage_holds_exactly_its_own_parameters(checkpoint):
    split, total = checkpoint.qzoom.split_layer, num_layers(checkpoint)
    layers = "model.language_model.layers."
    gate = PrefillGate.load(checkpoint)
    assert count_parameters(gate) == size_of(
        checkpoint,
        ["model.language_model.embed_tokens", "qzoom.gate"]
        + [f"{layers}{i}" for i in range(split)],
    )
    decoder = Decoder.load(checkpoint)
    assert count_parameters(decoder) == size_of(
        checkpoint,
        ["model.language_model.embed_tokens", "model.language_model.norm", "lm_head"]
        + [f"{layers}{i}" for i in range(total)],
    )
    assert count_parameters(RegionProposer.load(checkpoint)) == size_of(checkpoint, ["qzoom.rpn"])
    encoder = count_parameters(VisionEncoder.load(checkpoint))
    if checkpoint.family == "llava":
        # The tower's last layer and norm lie above the states that LLaVA uses.
        depth = checkpoint.hf_config.vision_config.num_hidden_layers
        unused = [f"model.vision_tower.encoder.layers.{depth - 1}"]
        unused.append("model.vision_tower.post_layernorm")
        used = size_of(checkpoint, ["model.vision_tower", "model.multi_modal_projector"])
        assert encoder == used - size_of(checkpoint, unused)
    else:
        assert encoder == size_of(checkpoint, ["model.visual"])


def test_no_stage_keeps_a_tensor_without_memory_or_with_a_gradient(checkpoint):
    for stage in (VisionEncoder, PrefillGate, RegionProposer, Decoder):
        module: nn.Module = stage.load(checkpoint, dtype=torch.bfloat16)
        assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
        assert not any(p.requires_grad for p in module.parameters())
        tensors = [*module.parameters(), *module.buffers()]
        assert not any(tensor.is_meta for tensor in tensors)


def test_a_tied_head_shares_the_memory_of_the_embeddings(family, checkpoint_folder):
    checkpoint = open_checkpoint(checkpoint_folder(family, is_tied=True))
    decoder = Decoder.load(checkpoint, dtype=torch.bfloat16)
    assert decoder.head.weight.data_ptr() == decoder.embedding.tokens.weight.data_ptr()
    untied = Decoder.load(open_checkpoint(checkpoint_folder(family)))
    table = decoder.embedding.tokens.weight.numel()
    assert count_parameters(decoder) == count_parameters(untied) - table


@pytest.mark.parametrize("route", ["direct", "zoom"])
def test_half_precision_stays_close(checkpoint, pipeline, picture, route):
    folder, question = checkpoint.path, single_question("What is the code?")
    half = Pipeline.open(folder, dtype=torch.bfloat16)
    options = DIRECT if route == "direct" else ZOOM
    one = pipeline.answer(question, [picture(300, 140)], options, Sampling(max_tokens=1))
    other = half.answer(question, [picture(300, 140)], options, Sampling(max_tokens=1))
    assert other.route == one.route == route
    assert other.p_refine == pytest.approx(one.p_refine, abs=BF16_ATOL)
    if route == "zoom":
        assert np.allclose(one.heatmap, other.heatmap, atol=BF16_ATOL)


def size_of(checkpoint, names):
    return sum(tensor.numel() for tensor in checkpoint.tensors(names).values())


def num_layers(checkpoint):
    return checkpoint.hf_config.get_text_config().num_hidden_layers
