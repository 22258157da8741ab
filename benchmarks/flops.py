"""How many floating-point operations does a run need, and how many does it do?

`count` sees every matrix product and attention that torch executes; the functions below it say what
the method needs at least. Both count a product-sum as two operations and attention densely, as
causal masks are counted by convention; norms, activations and rotations are left out of both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedConfig


def count(work: Callable[[], object]) -> int:
    """Run something and count its operations."""
    # The CPU's flash kernel is not among the operators that torch knows to count.
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    counter = FlopCounterMode(display=False, custom_mapping={kernel: _flash_attention})
    with counter:
        work()
    return int(counter.get_total_flops())


def _flash_attention(
    query: Sequence[int],
    key: Sequence[int],
    value: Sequence[int],
    *_args: object,
    **_kwargs: object,
) -> int:
    batch_heads_rows = prod(query[:-1])
    return 2 * batch_heads_rows * key[-2] * (query[-1] + value[-1])


@dataclass(frozen=True, slots=True)
class DecoderSize:
    """What the cost of a decoder layer depends on.

    Attributes:
        hidden: D.
        intermediate: Width of the gated MLP.
        heads: Query heads.
        kv_heads: KV heads.
        head_size: E.
        vocabulary: C.
    """

    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int

    @classmethod
    def of(cls, text_config: PreTrainedConfig) -> "DecoderSize":
        """Read from a text configuration."""
        heads, hidden = int(text_config.num_attention_heads), int(text_config.hidden_size)
        return cls(
            hidden=hidden,
            intermediate=int(text_config.intermediate_size),
            heads=heads,
            kv_heads=int(text_config.num_key_value_heads),
            head_size=int(getattr(text_config, "head_dim", None) or hidden // heads),
            vocabulary=int(text_config.vocab_size),
        )

    def layer(self, outputs: int, fresh: int, keys: int) -> int:
        """Cost of one layer.

        Args:
            outputs: Tokens whose output is needed.
            fresh: Tokens whose keys and values are computed.
            keys: Tokens that each output attends to, counted densely.
        """
        width, kv_width = self.heads * self.head_size, self.kv_heads * self.head_size
        projections = 2 * self.hidden * (2 * width * outputs + 2 * kv_width * fresh)
        attention = 4 * outputs * keys * width
        return projections + attention + 6 * outputs * self.hidden * self.intermediate

    def scoring(self, visual: int) -> int:
        """Cost of the RPN's last layer: one query, the visual tokens' keys, their products."""
        width, kv_width = self.heads * self.head_size, self.kv_heads * self.head_size
        return 2 * self.hidden * (width + kv_width * visual) + 2 * visual * width

    def head(self, rows: int) -> int:
        """Cost of the language-model head."""
        return 2 * rows * self.hidden * self.vocabulary

    def decode(self, layers: int, length: int, steps: int) -> int:
        """Cost of `steps` single tokens behind a sequence of `length`, all layers and the head."""
        return sum(
            layers * self.layer(1, 1, length + step + 1) + self.head(1) for step in range(steps)
        )


@dataclass(frozen=True, slots=True)
class VisionSize:
    """What the cost of a Qwen2.5-VL vision tower depends on.

    Attributes:
        hidden: Width.
        intermediate: Width of the gated MLP.
        depth: Layers.
        full: Layers with full attention; the others attend within windows.
        patch_values: Values of a flattened patch.
        merge: Patches a side that become one token.
        window_cells: Cells a side of a window.
        out: Width of the decoder.
    """

    hidden: int
    intermediate: int
    depth: int
    full: int
    patch_values: int
    merge: int
    window_cells: int
    out: int

    @classmethod
    def of(cls, config: PreTrainedConfig) -> "VisionSize":
        """Read from a vision configuration."""
        patch, merge = int(config.patch_size), int(config.spatial_merge_size)
        return cls(
            hidden=int(config.hidden_size),
            intermediate=int(config.intermediate_size),
            depth=int(config.depth),
            full=len(set(config.fullatt_block_indexes)),
            patch_values=int(config.in_channels) * int(config.temporal_patch_size) * patch**2,
            merge=merge,
            window_cells=int(config.window_size) // (patch * merge),
            out=int(config.out_hidden_size),
        )

    def picture(self, grid: tuple[int, int]) -> int:
        """Cost of one picture or crop.

        Args:
            grid: (H, W) in cells.
        """
        per_cell = self.merge**2
        patches = grid[0] * grid[1] * per_cell
        side = self.window_cells
        windows = [
            min(side, grid[0] - y) * min(side, grid[1] - x) * per_cell
            for y in range(0, grid[0], side)
            for x in range(0, grid[1], side)
        ]
        within = sum(size**2 for size in windows)
        pairs = self.full * patches**2 + (self.depth - self.full) * within
        linear = 4 * self.hidden**2 + 3 * self.hidden * self.intermediate
        merged = per_cell * self.hidden
        merger = 2 * (patches // per_cell) * (merged**2 + merged * self.out)
        embedding = 2 * patches * self.patch_values * self.hidden
        return embedding + 2 * patches * self.depth * linear + 4 * pairs * self.hidden + merger


@dataclass(frozen=True, slots=True)
class MethodSize:
    """One request of the method, whose least cost is asked for.

    Attributes:
        decoder: Sizes of a decoder layer.
        vision: Sizes of the tower.
        layers: L.
        split: B.
        gate_depth: R of the gate; 0 without one.
        rpn_depth: R of the RPN.
        coarse_grid: (H, W) of the coarse picture.
        prompt: Tokens of the coarse prompt.
        answer: Tokens that are drawn.
    """

    decoder: DecoderSize
    vision: VisionSize
    layers: int
    split: int
    gate_depth: int
    rpn_depth: int
    coarse_grid: tuple[int, int]
    prompt: int
    answer: int

    def direct(self) -> dict[str, int]:
        """Least cost of the direct route by stage."""
        return {
            "encoder.coarse": self.vision.picture(self.coarse_grid),
            "gate.prefill": self.split * self.decoder.layer(*[self.prompt] * 3)
            + self._last_only(self.gate_depth, self.prompt),
            "llm.resume": self._upper(self.prompt),
            "llm.decode": self.decoder.decode(self.layers, self.prompt, self.answer - 1),
        }

    def zoom(self, roi_grid: tuple[int, int], tail: int, length: int) -> dict[str, int]:
        """Least cost of the zoom route by stage.

        Args:
            roi_grid: (H, W) of the crop.
            tail: Tokens that go through layers 1..B again: the RoI and what follows it.
            length: Tokens of the whole sequence.
        """
        visual = self.coarse_grid[0] * self.coarse_grid[1]
        rpn = (self.rpn_depth - 1) * self.decoder.layer(*[self.prompt] * 3)
        coarse = self.direct()
        return {
            "encoder.coarse": coarse["encoder.coarse"],
            "gate.prefill": coarse["gate.prefill"],
            "rpn.propose": rpn + self.decoder.scoring(visual),
            "encoder.roi": self.vision.picture(roi_grid),
            "llm.resume": self.split * self.decoder.layer(tail, tail, length) + self._upper(length),
            "llm.decode": self.decoder.decode(self.layers, length, self.answer - 1),
        }

    def _upper(self, length: int) -> int:
        return self._last_only(self.layers - self.split, length) + self.decoder.head(1)

    def _last_only(self, depth: int, length: int) -> int:
        """Layers of which only the last token's output is needed."""
        if depth == 0:
            return 0
        whole = (depth - 1) * self.decoder.layer(*[length] * 3)
        return whole + self.decoder.layer(1, length, length)
