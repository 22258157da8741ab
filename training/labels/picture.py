"""Draw labels over their picture: attention, three states, and what was asked."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from qzoom.model.images import Pixels
from training.labels.regions import BACKGROUND, FOREGROUND, Labels, Map

_SIDE = 360
_TEXT_PX = 44
_TINTS = {FOREGROUND: (40, 200, 70), BACKGROUND: (200, 60, 60)}


def draw_labels(pixels: Pixels, attention: Map, labels: Labels, caption: str) -> Image.Image:
    """Show a question's labels.

    Args:
        pixels: The source picture.
        attention: Where the model looked [H, W], any grid.
        labels: On the coarse grid; green is foreground, red background, untouched is ignored.
        caption: Question and answer.

    Returns:
        image: The attention left, the labels right, the caption below.
    """
    scale = _SIDE / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    source = Image.fromarray(pixels).resize(size)
    heat = attention / max(float(attention.max()), 1e-12)
    mask = Image.fromarray((255 * np.sqrt(heat)).astype(np.uint8)).resize(size)
    left = Image.composite(
        Image.new("RGB", size, (255, 120, 0)), source, mask.point(lambda v: v * 0.8)
    )
    right = source.copy()
    draw = ImageDraw.Draw(right, "RGBA")
    rows, columns = labels.shape
    for row in range(rows):
        for column in range(columns):
            box = (
                column * size[0] / columns,
                row * size[1] / rows,
                (column + 1) * size[0] / columns - 1,
                (row + 1) * size[1] / rows - 1,
            )
            tint = _TINTS.get(int(labels[row, column]))
            if tint is not None:
                draw.rectangle(box, fill=(*tint, 90), outline=(*tint, 160))
    sheet = Image.new("RGB", (2 * _SIDE + 12, _SIDE + _TEXT_PX), "white")
    sheet.paste(left, (0, 0))
    sheet.paste(right, (_SIDE + 12, 0))
    text = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    text.multiline_text((6, _SIDE + 4), _wrap(caption, 92), fill="black", font=font)
    return sheet


def sheet(pictures: list[Image.Image], columns: int = 2) -> Image.Image:
    """Put pictures of equal size on one sheet."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", (columns * (width + 12), rows * (height + 12)), (220, 220, 220))
    for number, picture in enumerate(pictures):
        whole.paste(picture, (number % columns * (width + 12), number // columns * (height + 12)))
    return whole


def _wrap(text: str, width: int) -> str:
    return "\n".join(text[i : i + width] for i in range(0, min(len(text), 2 * width), width))
