"""How many visual tokens will a picture cost? Arithmetic alone, so that admission needs no torch.

The gateway asks before it accepts a request; the encoder's preprocessing resizes by the same
functions. All sizes are (width, height) in pixels, all grids (H, W) in cells; one cell is one
visual token.
"""

import math
from dataclasses import dataclass

from qzoom.errors import InvalidRequest

FETCH_CELL_PX = 28
"""The published evaluation rounds pictures to multiples of this, also for Qwen3-VL."""
FETCH_MIN_TOKENS = 4
FETCH_MAX_TOKENS = 16384
MAX_ASPECT_RATIO = 200
"""Longest side over shortest side that the Qwen families accept."""
MAX_PADDED_SIDE_PX = 10_000
"""Longest side where pictures are padded to a square: 300 MB at most."""


@dataclass(frozen=True, slots=True)
class ImageRules:
    """How a backbone turns pictures into cells.

    Attributes:
        cell_px: Side of a cell in pixels of the resized picture: 28 (Qwen2.5-VL), 32 (Qwen3-VL),
            14 (LLaVA-1.5).
        fixed_grid: The grid of every picture (LLaVA-1.5: 24 x 24); None where it follows size
            and budget.
        fetch_resize: Round the picture to multiples of 28 px first, as the published evaluation
            does.
        min_tokens: Fewest visual tokens of the coarse picture; smaller ones are enlarged.
        max_tokens: Most visual tokens of the coarse picture, unless the request says so.
    """

    cell_px: int
    fixed_grid: tuple[int, int] | None
    fetch_resize: bool
    min_tokens: int
    max_tokens: int


def coarse_grid(
    size_px: tuple[int, int], rules: ImageRules, max_tokens: int | None = None
) -> tuple[int, int]:
    """Predict the grid of a whole picture.

    Args:
        size_px: (width, height) of the source picture.
        rules: Of the model.
        max_tokens: The request's budget; None takes the model's.

    Returns:
        grid: (H, W); H * W visual tokens.

    Raises:
        InvalidRequest: If the picture is too long for its width or the other way round, or the
            budget is below what every picture of the model costs.
    """
    if rules.fixed_grid is not None:
        check_fixed_budget(rules.max_tokens, max_tokens, "qzoom.max_visual_tokens")
        if max(size_px) > MAX_PADDED_SIDE_PX:
            raise InvalidRequest(
                f"the picture is {size_px[0]}x{size_px[1]} px, "
                f"its longer side may have at most {MAX_PADDED_SIDE_PX} px"
            )
        return rules.fixed_grid
    if rules.fetch_resize:
        size_px = fetch_size(size_px)
    low, high = token_limits(rules.min_tokens, rules.max_tokens, max_tokens)
    cell_area = rules.cell_px**2
    width, height = fit_size(size_px, rules.cell_px, (low * cell_area, high * cell_area))
    return height // rules.cell_px, width // rules.cell_px


def native_tokens(size_px: tuple[int, int], cell_px: int) -> int:
    """Visual tokens of a whole picture at its own resolution: what a plain model would compute.

    Args:
        size_px: (width, height) of the source picture.
        cell_px: Side of a cell.

    Returns:
        Cells of the picture rounded to whole ones, at most `FETCH_MAX_TOKENS`.
    """
    width, height = (max(1, round(side / cell_px)) for side in size_px)
    return min(width * height, FETCH_MAX_TOKENS)


def token_limits(low: int, high: int, asked: int | None) -> tuple[int, int]:
    """Apply a request's budget to the model's limits; a smaller one lowers both.

    Args:
        low: The model's fewest tokens.
        high: The model's most tokens.
        asked: The request's most tokens, None for the model's.

    Raises:
        InvalidRequest: If the budget is not positive.
    """
    if asked is None:
        return low, high
    if asked < 1:
        raise InvalidRequest(f"the budget is {asked} visual tokens, must be at least 1")
    return min(low, asked), asked


def check_fixed_budget(cost: int, asked: int | None, param: str) -> None:
    """Refuse a budget below what every picture of a fixed-size model costs.

    Args:
        cost: Visual tokens of a picture.
        asked: The request's most tokens, None for the model's.
        param: The budget's field in the request.

    Raises:
        InvalidRequest: If so.
    """
    if asked is not None and asked < cost:
        raise InvalidRequest(
            f"{param} is {asked}, at least {cost}, which is what every picture costs here",
            param=param,
        )


def fetch_size(size_px: tuple[int, int]) -> tuple[int, int]:
    """Size after the published evaluation's first resize.

    Raises:
        InvalidRequest: As `fit_size`.
    """
    cell = FETCH_CELL_PX
    # Unlike the second resize, this one never rounds a side to nothing.
    rounded = [max(cell, round(side / cell) * cell) for side in size_px]
    return _fit(size_px, rounded, cell, (FETCH_MIN_TOKENS * cell**2, FETCH_MAX_TOKENS * cell**2))


def fit_size(
    size_px: tuple[int, int], cell_px: int, area_limits: tuple[int, int]
) -> tuple[int, int]:
    """Size whose sides are multiples of a cell and whose area lies within the limits.

    Keeps the aspect ratio as far as whole cells allow, so a very long picture, whose short side
    is already one cell, may exceed the upper limit.

    Args:
        size_px: (width, height).
        cell_px: Side of a cell.
        area_limits: (smallest, largest) number of pixels.

    Returns:
        size_px: (width, height) of the resized picture.

    Raises:
        InvalidRequest: If the picture has no area or its aspect ratio is above 200.
    """
    rounded = [round(side / cell_px) * cell_px for side in size_px]
    return _fit(size_px, rounded, cell_px, area_limits)


def _fit(
    size_px: tuple[int, int], rounded: list[int], cell: int, area_limits: tuple[int, int]
) -> tuple[int, int]:
    width, height = size_px
    if min(width, height) < 1:
        raise InvalidRequest(f"the picture is {width}x{height} px, both sides must be at least 1")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise InvalidRequest(
            f"the picture is {width}x{height} px, its longer side may be at most "
            f"{MAX_ASPECT_RATIO} times the shorter one"
        )
    area, (low, high) = rounded[0] * rounded[1], area_limits
    if area > high:
        beta = math.sqrt(height * width / high)
        rounded = [max(cell, math.floor(side / beta / cell) * cell) for side in size_px]
    elif area < low:
        beta = math.sqrt(low / (height * width))
        rounded = [math.ceil(side * beta / cell) * cell for side in size_px]
    return rounded[0], rounded[1]
