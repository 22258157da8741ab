"""What is in a picture: items with places, sizes and codes, drawn from one seed.

Sizes follow the coarse picture: an icon is 13-17 px there, large print 12-16 px (readable), small
print at most 5 px (not readable). All boxes are (x0, y0, x1, y1) in source pixels.
"""

import math
import random
from dataclasses import dataclass

from qzoom.data.fonts import FONT_NAMES, char_width
from qzoom.data.vocabulary import CODE_ALPHABET, COLOURS, PLACES, SHAPES

Box = tuple[float, float, float, float]

COARSE_PIXELS = 36 * 28 * 28
"""Pixels of the coarse picture that print sizes are measured against (36 visual tokens)."""

MIN_SMALL_PX = 13
"""Smallest font size in source pixels; below it a native crop is not readable either."""

_ROWS = 3


@dataclass(frozen=True, slots=True)
class Item:
    """One icon with its printed code."""

    shape: str
    """One of `vocabulary.SHAPES`; "" for a code without icon."""
    colour: str
    cell: tuple[int, int]
    """(row, column) in the 3 x 3 layout."""
    icon_px: Box
    code: str
    code_px: Box
    font: str
    font_px: int
    is_small: bool
    """True if the code cannot be read in the coarse picture."""

    @property
    def place(self) -> str:
        """Name of the item's place, e.g. "top left"."""
        return PLACES[self.cell[0]][self.cell[1]]

    @property
    def evidence_px(self) -> Box:
        """Box around icon and code: what one has to look at."""
        a, b = self.icon_px, self.code_px
        return (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))

    def char_centres_px(self) -> list[tuple[str, float, float]]:
        """(character, x, y) of every printed character's centre."""
        x, y = self.code_px[0], (self.code_px[1] + self.code_px[3]) / 2
        centres = []
        for char in self.code:
            width = char_width(self.font, self.font_px, char)
            centres.append((char, x + width / 2, y))
            x += width
        return centres


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture before it is drawn."""

    seed: int
    width: int
    height: int
    items: tuple[Item, ...]


def sample_scene(seed: int) -> Scene:
    """Draw a full scene: 4-9 items on a jittered 3 x 3 layout.

    Args:
        seed: Any non-negative integer; equal seeds give equal scenes.
    """
    rng = random.Random(seed)
    width, height = _sample_size(rng)
    scale = math.sqrt(width * height / COARSE_PIXELS)
    cells = [(r, c) for r in range(_ROWS) for c in range(_ROWS)]
    rng.shuffle(cells)
    cells = cells[: rng.randint(4, 9)]
    return _fill(rng, seed, (width, height), cells, _sample_small(rng, len(cells)), scale)


def sample_small_scene(seed: int, side_px: int, num_items: int) -> Scene:
    """Draw a small picture that is shown natively (no coarse version): training only.

    Args:
        seed: As in `sample_scene`.
        side_px: Side of the square picture.
        num_items: 1 puts one item anywhere; up to 4 share a 2 x 2 layout.
    """
    rng = random.Random(seed)
    cells = [(0, 0)] if num_items == 1 else rng.sample([(0, 0), (0, 2), (2, 0), (2, 2)], num_items)
    # Sizes as in a crop of a scene: small print with its icon as it is in the source.
    scale = rng.uniform(2.7, 3.3) if num_items == 1 else rng.uniform(2.0, 2.6)
    small = [True] * num_items
    return _fill(rng, seed, (side_px, side_px), cells, small, scale)


def _sample_size(rng: random.Random) -> tuple[int, int]:
    if rng.random() < 0.4:
        return 504, 504
    while True:
        width, height = rng.randint(448, 700), rng.randint(448, 700)
        if max(width, height) <= 1.5 * min(width, height):
            return width, height


def _sample_small(rng: random.Random, count: int) -> list[bool]:
    kind = rng.random()
    if kind < 0.15:
        return [False] * count
    if kind < 0.3:
        return [True] * count
    if kind < 0.5:
        return [index == 0 for index in range(count)]
    return [rng.random() < 0.5 for _ in range(count)]


def _fill(
    rng: random.Random,
    seed: int,
    size: tuple[int, int],
    cells: list[tuple[int, int]],
    small: list[bool],
    scale: float,
) -> Scene:
    colours = rng.sample(sorted(COLOURS), rng.randint(3, 6))
    shapes = rng.sample(SHAPES, rng.randint(3, 6))
    small_px = max(MIN_SMALL_PX, round(scale * rng.uniform(4.3, 5.0)))
    items: list[Item] = []
    codes: set[str] = set()
    for cell, is_small in zip(cells, small, strict=True):
        area = _cell_area(size, cell, len(cells))
        code = _sample_code(rng, codes)
        font_px = small_px if is_small else round(scale * rng.uniform(12.0, 16.0))
        kind = (rng.choice(shapes), rng.choice(colours))
        items.append(_place(rng, kind, cell, area, code, (font_px, is_small), scale))
    return Scene(seed, size[0], size[1], tuple(items))


def _cell_area(size: tuple[int, int], cell: tuple[int, int], num_items: int) -> Box:
    """Part of the picture that a cell's item may use; a lone item has the whole picture."""
    width, height = size
    if num_items == 1:
        return (0, 0, width, height)
    if min(size) < 300:
        row, col, rows = cell[0] // 2, cell[1] // 2, 2
    else:
        row, col, rows = cell[0], cell[1], _ROWS
    return (
        width * col / rows,
        height * row / rows,
        width * (col + 1) / rows,
        height * (row + 1) / rows,
    )


def _sample_code(rng: random.Random, used: set[str]) -> str:
    while True:
        code = "".join(rng.choice(CODE_ALPHABET) for _ in range(rng.choice((3, 4))))
        if code not in used:
            used.add(code)
            return code


def _place(
    rng: random.Random,
    kind: tuple[str, str],
    cell: tuple[int, int],
    area: Box,
    code: str,
    printing: tuple[int, bool],
    scale: float,
) -> Item:
    font_px, is_small = printing
    font = rng.choice(FONT_NAMES)
    icon = scale * rng.uniform(13.0, 17.0)
    gap = scale * rng.uniform(0.7, 1.7)
    area_w, area_h = area[2] - area[0], area[3] - area[1]
    text_w = sum(char_width(font, font_px, char) for char in code)
    beside = rng.random() < 0.3 and icon + gap + text_w < area_w - 8
    if not beside:  # shrink what does not fit below the icon
        icon = min(icon, area_h - 8 - gap - font_px, area_w - 8)
    block_w = icon + gap + text_w if beside else max(icon, text_w)
    block_h = max(icon, font_px) if beside else icon + gap + font_px
    x = area[0] + 3 + rng.random() * max(0.0, area_w - block_w - 6)
    y = area[1] + 3 + rng.random() * max(0.0, area_h - block_h - 6)
    if beside:
        icon_y, text_y = y + (block_h - icon) / 2, y + (block_h - font_px) / 2
        icon_x, text_x = x, x + icon + gap
    else:
        icon_y, text_y = y, y + icon + gap
        icon_x, text_x = x + (block_w - icon) / 2, x + (block_w - text_w) / 2
    return Item(
        shape=kind[0],
        colour=kind[1],
        cell=cell,
        icon_px=_rounded(icon_x, icon_y, icon, icon),
        code=code,
        code_px=_rounded(text_x, text_y, text_w, font_px),
        font=font,
        font_px=font_px,
        is_small=is_small,
    )


def _rounded(x: float, y: float, width: float, height: float) -> Box:
    return (round(x), round(y), round(x + width), round(y + height))
