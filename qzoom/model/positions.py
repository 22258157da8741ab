"""At which position does every token stand, before and after the zoom?

Pure functions over the prompt; used by the gate (coarse prompt), the decoder (zoomed tail) and
training, so that all three see the same sequence.

Notation (one picture of H x W cells, its first token at position s): e = s + max(H, W) is the
position of the text token that follows the picture in an ordinary M-RoPE sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from qzoom.contracts.stages import ImageSpan, Prompt, Proposal
from qzoom.model.config import QZoomConfig
from qzoom.model.geometry import expand_box

Positions = NDArray[np.float32]
"""Rows t, h, w; one column per token."""


def coarse_positions(num_tokens: int, spans: Sequence[ImageSpan], *, mrope: bool) -> Positions:
    """Place text and pictures as the backbone's own pre-training does.

    Args:
        num_tokens: T, length of the prompt.
        spans: The pictures in the order of the sequence.
        mrope: Whether visual tokens have three axes; else positions are 0..T-1.

    Returns:
        positions: [3, T], float32.
    """
    text = np.arange(num_tokens, dtype=np.float32)
    positions = np.stack([text, text, text])
    if not mrope:
        return positions
    for span in spans:
        height, width = span.grid
        end = span.start + height * width
        s = positions[0, span.start]
        positions[:, span.start : end] = s + _grid_offsets(height, width)
        # Text after the picture follows its longest side, however many tokens that saves.
        positions[:, end:] += s + max(height, width) - positions[0, end : end + 1]
    return positions


def next_position(positions: Positions) -> float:
    """Position of the first generated token: one after the last, the same on all axes."""
    return float(positions[:, -1].max()) + 1.0


@dataclass(frozen=True, slots=True)
class ZoomTail:
    """What follows the reused prefix in the zoomed sequence.

    Attributes:
        kept: Tokens of the coarse prompt whose state is reused: up to the end of the chosen
            picture's tokens.
        ids: Token ids of the tail, int32; visual tokens hold the placeholder's id.
        positions: M-RoPE positions of the tail [3, T'], float32.
        visual: (start in the tail, number of tokens) of the RoI, then of every later picture.
    """

    kept: int
    ids: NDArray[np.int32]
    positions: Positions
    visual: tuple[tuple[int, int], ...]


def zoom_tail(
    prompt: Prompt,
    proposal: Proposal,
    roi_grid: tuple[int, int],
    config: QZoomConfig,
    *,
    mrope: bool,
) -> ZoomTail:
    """Build [source vision_end | vision_start | RoI | vision_end | rest] behind the picture.

    On LLaVA, which has no delimiters, the tail is [RoI | rest].

    Args:
        prompt: The coarse prompt.
        proposal: The RoI; its picture may be any of the prompt's.
        roi_grid: (H', W') of the encoded crop, in cells.
        config: Layout of positions and delimiters.
        mrope: As in `coarse_positions`.

    Raises:
        ValueError: If the prompt does not hold the proposal's picture, or delimiters are wanted
            where the picture has none around it.
    """
    index = next((i for i, s in enumerate(prompt.spans) if s.image == proposal.image), None)
    if index is None:
        raise ValueError(f"picture {proposal.image} is not part of the prompt")
    span = prompt.spans[index]
    kept = span.start + span.grid[0] * span.grid[1]
    placeholder = prompt.ids[span.start]
    num_roi = roi_grid[0] * roi_grid[1] if proposal.kept is None else len(proposal.kept)
    roi_ids = np.full(num_roi, placeholder, np.int32)
    rest = prompt.ids[kept:]
    if config.roi_delimiters:
        if span.start == 0 or len(rest) == 0:
            raise ValueError("the picture has no delimiters that the RoI could copy")
        before, after = prompt.ids[span.start - 1], rest[0]
        ids = np.concatenate([[after, before], roi_ids, [after], rest[1:]]).astype(np.int32)
    else:
        ids = np.concatenate([roi_ids, rest])
    inserted = len(ids) - len(rest)
    visual = [(2 if config.roi_delimiters else 0, num_roi)]
    visual += [
        (s.start - kept + inserted, s.grid[0] * s.grid[1]) for s in prompt.spans[index + 1 :]
    ]
    positions = (
        _mrope_tail(prompt, span, proposal, roi_grid, config)
        if mrope
        else np.tile(np.arange(kept, kept + len(ids), dtype=np.float32), (3, 1))
    )
    return ZoomTail(kept, ids, positions, tuple(visual))


def _mrope_tail(
    prompt: Prompt,
    span: ImageSpan,
    proposal: Proposal,
    roi_grid: tuple[int, int],
    config: QZoomConfig,
) -> Positions:
    height, width = span.grid
    kept = span.start + height * width
    s = float(prompt.positions[0, span.start])
    e = s + max(height, width)
    longest = max(roi_grid)
    if config.roi_positions == "eq15":
        # Eq. 15 lets RoI rows and columns reach e, so the delimiters keep clear of it.
        delimiters = (e + 1, e + 2, e + 3)
    else:
        delimiters = (e, e + 1, e + 2 + longest)
    if config.roi_positions == "sequential":
        roi = e + 2 + _grid_offsets(*roi_grid)
    else:
        shift = min(height, width) if config.temporal_shift == "min" else max(height, width) + 2
        roi = _aligned_roi(span, proposal, roi_grid, config, s, s + shift)
    # The old sequence had its vision_end at e and the next token at e + 1.
    rest = prompt.positions[:, kept + 1 :] + np.float32(delimiters[2] - e)
    columns = [np.full((3, 1), value, np.float32) for value in delimiters]
    return np.concatenate([columns[0], columns[1], roi, columns[2], rest], axis=1)


def _aligned_roi(
    span: ImageSpan,
    proposal: Proposal,
    roi_grid: tuple[int, int],
    config: QZoomConfig,
    s: float,
    t: float,
) -> Positions:
    """Spread the RoI's cells over the box that they came from (Eq. 15)."""
    x0, y0, x1, y1 = expand_box(proposal.box_cells, span.grid, config.roi_margin_cells)
    # The paper interpolates to the box's end, the published code to its last cell.
    last = 1 if config.roi_positions == "interpolated" else 0
    roi_height, roi_width = roi_grid
    # torch's float32 steps, which the released checkpoints were trained with; one row or column
    # stands at the start of the box.
    rows = torch.linspace(s + y0, s + y1 - last, roi_height).numpy()
    columns = torch.linspace(s + x0, s + x1 - last, roi_width).numpy()
    return np.stack(
        [
            np.full(roi_height * roi_width, t, np.float32),
            np.repeat(rows, roi_width),
            np.tile(columns, roi_height),
        ]
    )


def _grid_offsets(height: int, width: int) -> Positions:
    """(t, h, w) of a picture's cells in row-major order, counted from its first token."""
    cells = np.indices((1, height, width), dtype=np.float32)
    return cells.reshape(3, height * width)
