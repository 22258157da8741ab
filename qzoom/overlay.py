"""Where did the model look? Heat map and box drawn over the source picture, with a legend.

The picture has three parts: the source with the heat map over it and the box around the RoI, the
crop as the second look saw it with the colour scale under it, and a caption with question, answer
and route. Needs Pillow and numpy only.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from qzoom.contracts.stages import Box

SOURCE_SIDE_PX = 896
CROP_SIDE_PX = 320
LEAST_WIDTH_PX = 640
MARGIN_PX = 20
TEXT_PX = 22
SMALL_PX = 17
SCALE_HEIGHT_PX = 16

_PAPER = (250, 250, 248)
_INK = (24, 24, 28)
_QUIET = (96, 96, 104)
_BOX = (0, 200, 255)
# Dark to bright through red, so that brightness alone already orders the values.
_RAMP_RGB = np.array([(20, 0, 60), (120, 10, 110), (215, 50, 60), (250, 150, 20), (255, 245, 120)])
_RAMP_AT = np.linspace(0.0, 1.0, len(_RAMP_RGB))
_MOST_OPAQUE = 0.72

LEAST_TOP = 0.05
"""The colour scale ends at the map's peak, but not below this: no noise is blown up."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is drawn.

    Attributes:
        question: As it was asked.
        answer: As it was given.
        route: `direct` or `zoom`.
        p_refine: The gate's probability; None where the gate was not asked.
        heatmap: Smoothed map [H, W] in [0, 1]; None where the RPN did not run.
        box_px: The RoI in pixels of the source; None on the direct route.
        tau_roi: Threshold on the map, marked on the colour scale; None leaves it out.
    """

    question: str
    answer: str
    route: str
    p_refine: float | None = None
    heatmap: NDArray[np.float32] | None = None
    box_px: Box | None = None
    tau_roi: float | None = None


def draw_overlay(source: Image.Image, look: Look) -> Image.Image:
    """Draw the picture.

    Args:
        source: The picture that was asked about, any mode.
        look: What the model did with it.

    Returns:
        An RGB picture, about 900 px wide, or 1250 px with a crop.
    """
    rgb = source.convert("RGB")
    left = _draw_source(rgb, look)
    has_panel = look.box_px is not None or look.heatmap is not None
    width = left.width + 2 * MARGIN_PX + (CROP_SIDE_PX + MARGIN_PX if has_panel else 0)
    width = max(width, LEAST_WIDTH_PX)
    caption = _draw_caption(look, width - 2 * MARGIN_PX)
    panel = _draw_panel(rgb, look) if has_panel else None
    height = max(left.height, panel.height if panel else 0)

    page = Image.new("RGB", (width, height + caption.height + 3 * MARGIN_PX), _PAPER)
    page.paste(left, (MARGIN_PX, MARGIN_PX))
    if panel is not None:
        page.paste(panel, (left.width + 2 * MARGIN_PX, MARGIN_PX))
    page.paste(caption, (MARGIN_PX, height + 2 * MARGIN_PX))
    return page


def _draw_source(rgb: Image.Image, look: Look) -> Image.Image:
    """Scale the source to a readable size, then lay heat map and box over it."""
    scale = SOURCE_SIDE_PX / max(rgb.size)
    size = (max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale)))
    picture = rgb.resize(size, Image.Resampling.LANCZOS)
    if look.heatmap is not None:
        picture = _blend_heat(picture, look.heatmap, _top(look))
    if look.box_px is not None:
        x0, y0, x1, y1 = (round(edge * scale) for edge in look.box_px)
        draw = ImageDraw.Draw(picture)
        draw.rectangle((x0 - 2, y0 - 2, x1 + 2, y1 + 2), outline=_INK, width=7)
        draw.rectangle((x0, y0, x1, y1), outline=_BOX, width=3)
        _draw_tag(draw, "RoI", (x0, y0), picture.size)
    return picture


def _top(look: Look) -> float:
    """Value at the bright end of the colour scale; smoothing lets peaks seldom come near 1."""
    peak = 0.0 if look.heatmap is None else float(np.nan_to_num(look.heatmap).max(initial=0.0))
    return min(1.0, max(peak, look.tau_roi or 0.0, LEAST_TOP))


def _blend_heat(picture: Image.Image, heatmap: NDArray[np.float32], top: float) -> Image.Image:
    """Tint the picture; cold cells stay as they are, so that the source remains readable."""
    values = np.clip(np.nan_to_num(heatmap) / top, 0.0, 1.0)
    cells = Image.fromarray((values * 255).round().astype(np.uint8))
    heat = np.asarray(cells.resize(picture.size, Image.Resampling.BICUBIC)) / 255.0
    alpha = (_MOST_OPAQUE * heat)[..., None]
    mixed = (1.0 - alpha) * np.asarray(picture) + alpha * _colour(heat)
    return Image.fromarray(mixed.round().astype(np.uint8))


def _colour(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map values in [0, 1] to the colour ramp, one axis more for RGB."""
    return np.stack([np.interp(values, _RAMP_AT, _RAMP_RGB[:, c]) for c in range(3)], axis=-1)


def _draw_tag(
    draw: ImageDraw.ImageDraw, text: str, corner: tuple[int, int], size: tuple[int, int]
) -> None:
    """Write a label on a plate above the box, or inside it where there is no room."""
    font = _font(SMALL_PX)
    x0, y0, x1, y1 = draw.textbbox((0, 0), text, font=font)
    width, height = int(x1 - x0) + 12, int(y1 - y0) + 10
    x = min(max(0, corner[0]), max(0, size[0] - width))
    y = corner[1] - height if corner[1] >= height else corner[1]
    draw.rectangle((x, y, x + width, y + height), fill=_INK)
    draw.text((x + 6 - x0, y + 5 - y0), text, font=font, fill=_BOX)


def _draw_panel(rgb: Image.Image, look: Look) -> Image.Image:
    """Draw the crop as a closer look, and the colour scale of the heat map."""
    panel = Image.new("RGB", (CROP_SIDE_PX, CROP_SIDE_PX + 150), _PAPER)
    draw = ImageDraw.Draw(panel)
    y = 0
    if look.box_px is not None:
        x0, y0, x1, y1 = look.box_px
        draw.text((0, y), "second look at the RoI", font=_font(SMALL_PX), fill=_QUIET)
        crop = rgb.crop(look.box_px)
        scale = CROP_SIDE_PX / max(crop.size)
        size = (max(1, round(crop.width * scale)), max(1, round(crop.height * scale)))
        panel.paste(crop.resize(size, Image.Resampling.LANCZOS), (0, y + 26))
        y += 26 + size[1] + 6
        draw.text(
            (0, y),
            f"{x1 - x0} x {y1 - y0} px at ({x0}, {y0})",
            font=_font(SMALL_PX),
            fill=_QUIET,
        )
        y += 40
    if look.heatmap is not None:
        _draw_scale(panel, y, _top(look), look.tau_roi)
    return panel


def _draw_scale(panel: Image.Image, y: int, top: float, tau_roi: float | None) -> None:
    draw = ImageDraw.Draw(panel)
    font = _font(SMALL_PX)
    draw.text((0, y), "heat map", font=font, fill=_QUIET)
    y += 26
    ramp = _colour(np.tile(np.linspace(0.0, 1.0, CROP_SIDE_PX), (SCALE_HEIGHT_PX, 1)))
    panel.paste(Image.fromarray(ramp.round().astype(np.uint8)), (0, y))
    below = y + SCALE_HEIGHT_PX + 4
    draw.text((0, below), "0", font=font, fill=_QUIET)
    draw.text((CROP_SIDE_PX, below), f"{top:.2f}", font=font, fill=_QUIET, anchor="ra")
    if tau_roi is not None:
        x = round(tau_roi / top * (CROP_SIDE_PX - 1))
        draw.line((x, y - 4, x, y + SCALE_HEIGHT_PX + 3), fill=_INK, width=3)
        at = min(max(x, 60), CROP_SIDE_PX - 60)
        draw.text((at, below), f"tau {tau_roi:.2f}", font=font, fill=_INK, anchor="ma")


def _draw_caption(look: Look, width: int) -> Image.Image:
    """Write question, answer and route, wrapped to the width."""
    gate = "" if look.p_refine is None else f", p(refine) = {look.p_refine:.3f}"
    lines = [
        *((line, _INK) for line in _wrap(f"Q: {look.question}", width)),
        *((line, _INK) for line in _wrap(f"A: {look.answer}", width)),
        (f"route: {look.route}{gate}", _QUIET),
    ]
    step = TEXT_PX + 10
    caption = Image.new("RGB", (width, step * len(lines)), _PAPER)
    draw = ImageDraw.Draw(caption)
    for row, (line, colour) in enumerate(lines):
        draw.text((0, row * step), line, font=_font(TEXT_PX), fill=colour)
    return caption


def _wrap(text: str, width: int, max_lines: int = 4) -> list[str]:
    """Break a text into lines that fit; what exceeds the last line is cut with dots."""
    font = _font(TEXT_PX)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], f"{lines[max_lines - 1]} ..."]
    return [_shorten(line, width) for line in lines]


def _shorten(line: str, width: int) -> str:
    font = _font(TEXT_PX)
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}...") > width:
        line = line[:-1]
    return f"{line}..."


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)
