"""Draw a scene with Pillow; a few milliseconds a picture."""

import math
import random
from collections.abc import Callable
from functools import lru_cache

from PIL import Image, ImageDraw

from qzoom.data.fonts import load_font
from qzoom.data.scene import Scene
from qzoom.data.vocabulary import COLOURS

_OVERSAMPLE = 4
_INKS = ((20, 20, 20), (60, 30, 20), (20, 30, 90), (70, 10, 60))
Points = list[tuple[float, float]]


def render(scene: Scene) -> Image.Image:
    """Draw a scene; the same scene always gives the same pixels.

    Args:
        scene: What to draw.

    Returns:
        An RGB picture of the scene's size.
    """
    rng = random.Random(scene.seed ^ 0x5EED)
    paper = tuple(rng.randint(222, 255) for _ in range(3))
    image = Image.new("RGB", (scene.width, scene.height), paper)
    draw = ImageDraw.Draw(image)
    _draw_background(draw, rng, scene)
    for item in scene.items:
        x0, y0, x1, _ = (int(v) for v in item.icon_px)
        if not item.shape:
            continue
        mask = icon_mask(item.shape, max(4, x1 - x0))
        shade = tuple(max(0, min(255, v + rng.randint(-12, 12))) for v in COLOURS[item.colour])
        image.paste(shade, (x0, y0), mask)
    for item in scene.items:
        # "lm": left edge and vertical middle, so that the box describes the drawn line.
        middle = (item.code_px[1] + item.code_px[3]) / 2
        font = load_font(item.font, item.font_px)
        draw.text((item.code_px[0], middle), item.code, rng.choice(_INKS), font, anchor="lm")
    return image


def _draw_background(draw: ImageDraw.ImageDraw, rng: random.Random, scene: Scene) -> None:
    """Pale panels and lines: something to look past, never darker than the print."""
    for _ in range(rng.choice((0, 0, 2, 4))):
        x, y = rng.randint(0, scene.width), rng.randint(0, scene.height)
        w, h = rng.randint(20, scene.width), rng.randint(20, scene.height)
        tint = tuple(rng.randint(215, 255) for _ in range(3))
        if rng.random() < 0.6:
            draw.rectangle((x, y, x + w, y + h), fill=tint)
        else:
            draw.line((x, y, x + w - 40, y + h - 40), fill=tint, width=rng.randint(1, 4))


@lru_cache(maxsize=1024)
def icon_mask(shape: str, side: int) -> Image.Image:
    """Antialiased mask of a shape that fills a square.

    Args:
        shape: One of `vocabulary.SHAPES`.
        side: Side of the square in pixels.
    """
    big = side * _OVERSAMPLE
    mask = Image.new("L", (big, big), 0)
    draw = ImageDraw.Draw(mask)
    if shape == "circle":
        draw.ellipse((0, 0, big - 1, big - 1), fill=255)
    else:
        points = _OUTLINES[shape]()
        draw.polygon([(x * (big - 1), y * (big - 1)) for x, y in points], fill=255)
    return mask.resize((side, side), Image.Resampling.BOX)


def _square() -> Points:
    return [(0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94)]


def _triangle() -> Points:
    return [(0.5, 0.02), (1.0, 0.96), (0.0, 0.96)]


def _diamond() -> Points:
    return [(0.5, 0.0), (0.92, 0.5), (0.5, 1.0), (0.08, 0.5)]


def _cross() -> Points:
    a, b = 0.33, 0.67
    return [
        (a, 0), (b, 0), (b, a), (1, a), (1, b), (b, b),
        (b, 1), (a, 1), (a, b), (0, b), (0, a), (a, a),
    ]  # fmt: skip


def _star() -> Points:
    points = []
    for k in range(10):
        radius = 0.53 if k % 2 == 0 else 0.22
        angle = math.pi * (k / 5 - 0.5)
        points.append((0.5 + radius * math.cos(angle), 0.53 + radius * math.sin(angle)))
    return points


def _heart() -> Points:
    points = []
    for k in range(40):
        t = 2 * math.pi * k / 40
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((0.5 + x / 33, 0.45 - y / 32))
    return points


_OUTLINES: dict[str, Callable[[], Points]] = {
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "cross": _cross,
    "star": _star,
    "heart": _heart,
}
