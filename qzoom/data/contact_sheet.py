"""One picture that shows what a data set looks like: scenes, evidence boxes, questions."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from qzoom.data.fonts import load_font
from qzoom.data.questions import Question

_TILE_PX = 400
_LINE_PX = 16
_COLOURS = {"detail": (200, 0, 0), "print": (0, 110, 0), "coarse": (0, 0, 160)}


def contact_sheet(
    pictures: Sequence[tuple[Image.Image, Sequence[Question]]], columns: int = 3
) -> Image.Image:
    """Tile pictures with their questions below.

    Args:
        pictures: Each picture with its questions.
        columns: Tiles in a row.

    Returns:
        The sheet; text colour tells the group (red detail, green large print, blue coarse).
    """
    lines = max((len(questions) for _, questions in pictures), default=0)
    tile_h = _TILE_PX + lines * _LINE_PX + 8
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * _TILE_PX, max(1, rows) * tile_h), "white")
    for index, (picture, questions) in enumerate(pictures):
        corner = (index % columns * _TILE_PX, index // columns * tile_h)
        _draw_tile(sheet, corner, picture, questions)
    return sheet


def _draw_tile(
    sheet: Image.Image, corner: tuple[int, int], picture: Image.Image, questions: Sequence[Question]
) -> None:
    draw = ImageDraw.Draw(sheet)
    font = load_font("DejaVu Sans", 11)
    scale = (_TILE_PX - 8) / max(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    sheet.paste(picture.resize(size, Image.Resampling.BICUBIC), corner)
    for line, question in enumerate(questions):
        colour = _COLOURS[question.group]
        if question.needs_detail and question.evidence_px:
            x0, y0, x1, y1 = (v * scale for v in question.evidence_px)
            box = (corner[0] + x0 - 2, corner[1] + y0 - 2, corner[0] + x1 + 2, corner[1] + y1 + 2)
            draw.rectangle(box, outline=colour)
        where = (corner[0] + 4, corner[1] + _TILE_PX + line * _LINE_PX)
        draw.text(where, f"{question.text}  ->  {question.answer}", colour, font)
