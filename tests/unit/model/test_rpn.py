"""Scores of two heads of size 2 by hand, for every choice of the configuration."""

import math

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, Qwen2_5_VLConfig
from transformers.models.llama import modeling_llama as hf

from qzoom.contracts.stages import ImageSpan, Prompt
from qzoom.model.backbones import TextBackbone
from qzoom.model.config import QZoomConfig
from qzoom.model.parameters import assign_tensors
from qzoom.model.regions import RegionFinder
from qzoom.model.rpn import RegionProposer, RpnInput
from qzoom.model.state import PrefillState, StatePart

CPU = torch.device("cpu")
FIRST, CELL, OTHER, LAST = (
    [0.0, 2.0, 0.0, 0.0],
    [2.0, 0.0, 0.0, 0.0],
    [0.0, 0.0, 2.0, 0.0],
    [1.0] * 4,
)
"""Hidden states that the RMSNorm leaves as they are: their mean square is one."""


def proposer(preset="paper", **fields):
    """An RPN of one layer whose projections are the identity."""
    text = LlamaConfig(
        hidden_size=4,
        intermediate_size=4,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_hidden_layers=2,
        rms_norm_eps=0.0,
    )
    backbone = TextBackbone.create(
        text,
        layer_type=hf.LlamaDecoderLayer,
        norm_type=hf.LlamaRMSNorm,
        rotary_type=hf.LlamaRotaryEmbedding,
        mrope=False,
    )
    fields = {"rpn_depth": 1, "gate_depth": 1, "sink_mask": "none", "tau_roi": 0.5, **fields}
    config = QZoomConfig.preset(preset, "qwen2_5_vl", split_layer=1, **fields)
    finder = RegionFinder(config, "qwen2_5_vl", Qwen2_5_VLConfig())
    rpn = RegionProposer(backbone, config, finder, device=CPU)
    tensors = {"input_layernorm.weight": torch.ones(4)}
    tensors |= {f"self_attn.{name}.weight": torch.eye(4) for name in ("q_proj", "k_proj")}
    if config.rpn_extra_norm:
        tensors["norm.weight"] = torch.full((4,), 3.0)
    assign_tensors(rpn.scoring, tensors, "", device=CPU, dtype=torch.float32)
    return rpn


def state_of(cells, grid):
    """[first token | cells | last token], at positions 0, 1, 2, ..."""
    hidden = torch.tensor([FIRST, *cells, LAST])
    ids = np.zeros(len(hidden), np.int32)
    positions = np.tile(np.arange(len(hidden), dtype=np.float32), (3, 1))
    span = ImageSpan(0, 1, grid, (280, 280))
    end = 1 + len(cells)
    kv = torch.zeros(1, 2, 2, len(hidden), 2)
    return PrefillState(
        Prompt(ids, positions, (span,)),
        (StatePart(kv[..., :end, :], hidden[:end]),),
        StatePart(kv[..., end:, :], hidden[end:]),
    )


def logits_of(rpn, cells, grid):
    return rpn.run([RpnInput(state_of(cells, grid))])[0].maps[0].logits.flatten().tolist()


def test_scores_are_scaled_and_averaged_over_heads():
    # q = (1, 1 | 1, 1); the cell's k = (2, 0 | 0, 0): heads score 2 and 0.
    rpn = proposer(rpn_rope=False)
    assert logits_of(rpn, [CELL, OTHER], (1, 2)) == pytest.approx([1 / math.sqrt(2)] * 2)


def test_without_scale_the_mean_remains():
    rpn = proposer(rpn_rope=False, rpn_scale=False)
    assert logits_of(rpn, [CELL], (1, 1)) == pytest.approx([1.0])


def test_a_single_head_takes_the_whole_product():
    rpn = proposer(rpn_rope=False, rpn_multi_head=False)
    assert logits_of(rpn, [CELL], (1, 1)) == pytest.approx([2.0])


def test_rope_turns_queries_and_keys_to_their_positions():
    # Key (2, 0) at position n against query (1, 1) at m: 2 cos(n - m) + 2 sin(n - m).
    angles = [1 - 3, 2 - 3]
    expected = [(2 * math.cos(a) + 2 * math.sin(a)) / 2 / math.sqrt(2) for a in angles]
    assert logits_of(proposer(), [CELL, CELL], (1, 2)) == pytest.approx(expected, abs=1e-6)


def test_an_extra_norm_comes_before_the_layer_s_own():
    # Its weight of 3 is undone by the input norm that follows.
    rpn = proposer(rpn_rope=False, rpn_extra_norm=True)
    assert logits_of(rpn, [[20.0, 0, 0, 0]], (1, 1)) == pytest.approx([1 / math.sqrt(2)])


def test_the_smoothed_map_follows_from_sigmoid_and_blur():
    rpn = proposer(rpn_rope=False)
    output = rpn.run([RpnInput(state_of([CELL] * 9, (3, 3)))])[0]
    p = 1 / (1 + math.exp(-1 / math.sqrt(2)))
    assert output.maps[0].smoothed.tolist() == pytest.approx(np.full((3, 3), p))
    assert output.proposal.box_cells == (0, 0, 3, 3)
    assert output.proposal.box_px == (0, 0, 280, 280)
    assert output.proposal.score == pytest.approx(p)
    assert output.tau_roi == 0.5


def test_no_cell_above_the_threshold_means_no_proposal():
    state = state_of([CELL] * 9, (3, 3))
    p = 1 / (1 + math.exp(-1 / math.sqrt(2)))
    rpn = proposer(rpn_rope=False)
    assert rpn.run([RpnInput(state, tau_roi=p + 1e-4)])[0].proposal is None
    assert rpn.run([RpnInput(state, tau_roi=p - 1e-4)])[0].proposal is not None


def test_a_relative_threshold_follows_the_map_s_peak():
    """A faint map gives the same box as a clear one, and says where it was cut."""
    cells = [[-1.0, -1, -1, -1]] * 5 + [[-1.0, 0, 0, 0]]
    state = state_of(cells, (1, 6))
    faint = proposer(rpn_rope=False, roi_threshold="relative", tau_roi=0.95)
    [output] = faint.run([RpnInput(state)])
    peak = float(output.maps[0].smoothed.max())
    assert peak < 0.5
    assert output.proposal.box_cells == (5, 0, 6, 1)
    assert output.tau_roi == pytest.approx(0.95 * peak)
    assert output.proposal.score == pytest.approx(peak)
    [wide] = faint.run([RpnInput(state, tau_roi=0.85)])
    assert wide.proposal.box_cells == (4, 0, 6, 1)
    assert proposer(rpn_rope=False).run([RpnInput(state, tau_roi=0.85)])[0].proposal is None


def test_cells_that_the_first_token_attends_to_are_dropped():
    # Head 0 of the first token, (0, 2), against the cell's heads: strong is (0, 2 | 0, 0), 4.
    strong, weak = [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0]
    rpn = proposer(rpn_rope=False, sink_mask="first_token")
    output = rpn.run([RpnInput(state_of([strong, CELL, weak, OTHER], (2, 2)))])[0]
    # mean(4, 0) / sqrt(2) = 1.41 for both: head 0 asks the keys of every head.
    unmasked = proposer(rpn_rope=False).run(
        [RpnInput(state_of([strong, CELL, weak, OTHER], (2, 2)))]
    )[0]
    assert output.maps[0].logits.tolist() == unmasked.maps[0].logits.tolist()
    p = 1 / (1 + math.exp(-1 / math.sqrt(2)))
    # Blur of [[0, p], [0, p]] on a 2 x 2 map: rows are equal, columns mix by reflection.
    inner, outer = 0.4518628 * p, 2 * 0.2740686 * p
    assert output.maps[0].smoothed[0].tolist() == pytest.approx([outer, inner], abs=1e-6)


def test_the_corner_rule_needs_a_large_map():
    cells = [CELL] * (16 * 17)
    dropped = proposer("released", rpn_rope=False, sink_mask="corner")
    kept = proposer(rpn_rope=False)
    state = state_of(cells, (16, 17))
    difference = kept.run([RpnInput(state)])[0].heatmap - dropped.run([RpnInput(state)])[0].heatmap
    assert difference[0, 0] > 0.1
    assert difference[8:, 8:].max() == pytest.approx(0.0, abs=1e-7)
    small = state_of([CELL] * 256, (16, 16))
    assert (
        kept.run([RpnInput(small)])[0].heatmap == dropped.run([RpnInput(small)])[0].heatmap
    ).all()


def test_a_prompt_without_pictures_has_nothing_to_propose():
    hidden = torch.tensor([FIRST, LAST])
    prompt = Prompt(np.zeros(2, np.int32), np.zeros((3, 2), np.float32), ())
    kv = torch.zeros(1, 2, 2, 2, 2)
    state = PrefillState(prompt, (), StatePart(kv, hidden))
    output = proposer().run([RpnInput(state)])[0]
    assert (output.proposal, output.heatmap, output.maps) == (None, None, ())


@pytest.mark.parametrize(("split", "depth"), [(2, 1), (1, 2)])
def test_a_branch_that_the_model_is_too_short_for_is_refused(split, depth):
    config = QZoomConfig.preset("paper", "llava", split_layer=split, rpn_depth=depth)
    with pytest.raises(ValueError, match="layers"):
        proposer()._backbone.check(config)
