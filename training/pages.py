"""Pages full of codes, for the vision tower alone: many characters for little work.

A scene shows a few characters among much paper, and what a token shows limits what can be read from
it. A page of the same print, in the sizes that encoded pictures have, teaches characters an order
of magnitude faster.
"""

import random

from qzoom.data.fonts import FONT_NAMES, char_width
from qzoom.data.render import render
from qzoom.data.scene import Item, Scene
from qzoom.data.vocabulary import CODE_ALPHABET
from training.aux import aux_labels
from training.modes import View
from training.pixels import patches, token_grid

SIDE_PX = 168
_TOKENS = 36


def sample_page(seed: int) -> Scene:
    """Draw a page: lines of codes, without icons.

    Args:
        seed: Equal seeds give equal pages.
    """
    rng = random.Random(seed * 17 + 5)
    items: list[Item] = []
    y = rng.uniform(1.0, 12.0)
    while True:
        font_px = rng.randint(12, 17) if rng.random() < 0.8 else rng.randint(8, 12)
        if y + font_px > SIDE_PX:
            return Scene(seed, SIDE_PX, SIDE_PX, tuple(items))
        x = rng.uniform(1.0, 30.0)
        while True:
            code = "".join(rng.choice(CODE_ALPHABET) for _ in range(rng.choice((3, 4))))
            font = rng.choice(FONT_NAMES)
            width = sum(char_width(font, font_px, char) for char in code)
            if x + width > SIDE_PX:
                break
            box = (round(x), round(y), round(x + width), round(y + font_px))
            nothing = (box[0], box[1], box[0], box[1])
            items.append(Item("", "", (0, 0), nothing, code, box, font, font_px, is_small=True))
            x += width + rng.uniform(14.0, 34.0)
        # Lines of neighbouring tokens: two codes in one token have no one order.
        y += font_px + rng.uniform(14.0, 24.0)


def page_view(seed: int) -> View:
    """A page with its labels, as the vision tower takes it."""
    scene = sample_page(seed)
    grid = token_grid(SIDE_PX, SIDE_PX, 4, _TOKENS)
    view_px = (0, 0, SIDE_PX, SIDE_PX)
    return View(grid, patches(render(scene), grid), aux_labels(scene, view_px, grid))
