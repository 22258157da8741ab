"""Which models are measured? Random weights cost what trained ones cost."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.flops import DecoderSize, MethodSize, VisionSize
from qzoom.contracts.stages import Box, Proposal
from qzoom.model.images import Pixels
from qzoom.model.loading import Checkpoint
from qzoom.model.random_checkpoint import ModelSize
from qzoom.model.rpn import RegionProposer, RpnInput, RpnOutput

METHOD_SIZE = ModelSize(
    hidden_size=256,
    num_layers=12,
    num_heads=8,
    num_kv_heads=2,
    split_layer=6,
    branch_depth=3,
    vision_size=128,
    vision_depth=6,
    mlp_ratio=5.375,
    vision_mlp_ratio=3.0,
    vision_full=(1, 3, 5),
)
"""The size at which the published code was timed; its MLPs have the real model's proportions."""

METHOD_BUDGET: dict[str, Any] = {
    "coarse_min_tokens": 576,
    "coarse_max_tokens": 576,
    "roi_min_tokens": 4,
    "roi_max_tokens": 576,
}
METHOD_SIDE_PX = 1344
"""A picture of this side has 24 x 24 cells in 576 tokens, each of 56 px."""

METHOD_BOX_CELLS: Box = (2, 2, 15, 13)
METHOD_BOX_PX: Box = (112, 112, 840, 700)
"""26 x 21 cells of 28 px: a crop of 546 tokens in its own resolution."""


class FixedRegion(RegionProposer):
    """An RPN that does all of its work, and then looks where it is told.

    A random model's box would change the load from seed to seed.
    """

    box: tuple[Box, Box] | None = None
    """In cells and in source pixels; None leaves the RPN its choice."""

    def run(self, inputs: Sequence[RpnInput]) -> list[RpnOutput]:
        """See `RegionProposer`."""
        outputs = super().run(inputs)
        if self.box is None:
            return outputs
        cells, px = self.box
        return [replace(output, proposal=Proposal(0, cells, px, 1.0)) for output in outputs]


def block_picture(width: int, height: int, seed: int = 0) -> Pixels:
    """Draw 8 x 8 blocks of random colours.

    Returns:
        pixels: [height, width, 3] RGB, uint8.
    """
    blocks: NDArray[np.uint8] = np.random.default_rng(seed).integers(
        0, 256, (8, 8, 3), dtype=np.uint8
    )
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    return np.ascontiguousarray(blocks[rows][:, columns])


def method_size(
    checkpoint: Checkpoint, coarse_grid: tuple[int, int], prompt: int, answer: int
) -> MethodSize:
    """Read the sizes that the least cost of a request follows from.

    Args:
        checkpoint: A Qwen2.5-VL one.
        coarse_grid: (H, W) of the coarse picture in cells.
        prompt: Tokens of the coarse prompt.
        answer: Tokens of the answer.
    """
    config, text = checkpoint.qzoom, checkpoint.hf_config.get_text_config()
    return MethodSize(
        decoder=DecoderSize.of(text),
        vision=VisionSize.of(checkpoint.hf_config.vision_config),
        layers=int(text.num_hidden_layers),
        split=config.split_layer,
        gate_depth=config.gate_depth if config.has_gate else 0,
        rpn_depth=config.rpn_depth,
        coarse_grid=coarse_grid,
        prompt=prompt,
        answer=answer,
    )


def use_threads(count: int) -> None:
    """Let torch compute with this many threads, in every case alike."""
    torch.set_num_threads(count)
