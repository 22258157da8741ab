import numpy as np
import pytest
from PIL import Image

from qzoom.overlay import CROP_SIDE_PX, MARGIN_PX, SOURCE_SIDE_PX, Look, draw_overlay

GREY = (128, 128, 128)


def pixels(image):
    return np.asarray(image).astype(int)


def test_heat_tints_only_the_hot_side():
    heat = np.zeros((4, 4), np.float32)
    heat[:, 3] = 1.0
    page = pixels(
        draw_overlay(Image.new("RGB", (64, 64), GREY), Look("?", "!", "zoom", heatmap=heat))
    )
    row = page[MARGIN_PX + SOURCE_SIDE_PX // 2]
    assert abs(row[MARGIN_PX + 100] - GREY).max() <= 2
    hot = row[MARGIN_PX + SOURCE_SIDE_PX - 20]
    assert hot[0] > 200
    assert hot[2] < 150


def test_a_low_peak_is_as_visible_as_a_high_one():
    """Smoothing keeps peaks far below 1: the scale ends at the peak."""
    heat = np.zeros((4, 4), np.float32)
    heat[:, 3] = 1.0
    grey = Image.new("RGB", (64, 64), GREY)
    high, low = (
        pixels(draw_overlay(grey, Look("?", "!", "zoom", heatmap=heat * peak)))[
            :, : MARGIN_PX + SOURCE_SIDE_PX
        ]
        for peak in (1.0, 0.2)
    )
    assert abs(high - low).max() <= 2


def test_noise_is_not_blown_up():
    heat = np.full((4, 4), 0.004, np.float32)
    heat[0, 0] = 0.01
    look = Look("?", "!", "zoom", heatmap=heat)
    page = pixels(draw_overlay(Image.new("RGB", (64, 64), GREY), look))
    seen = page[MARGIN_PX : MARGIN_PX + SOURCE_SIDE_PX, MARGIN_PX : MARGIN_PX + SOURCE_SIDE_PX]
    assert abs(seen - GREY).max() < 40


def test_the_box_is_drawn_where_it_lies():
    look = Look("?", "!", "zoom", box_px=(16, 32, 48, 56))
    page = pixels(draw_overlay(Image.new("RGB", (64, 64), GREY), look))
    scale = SOURCE_SIDE_PX / 64
    left, middle = MARGIN_PX + round(16 * scale), MARGIN_PX + round(44 * scale)
    assert (page[middle, left + 1] == (0, 200, 255)).all()
    assert (page[middle, left - 5] == GREY).all()
    assert (page[middle, left + 40] == GREY).all()


def test_the_crop_is_shown_beside():
    source = Image.new("RGB", (64, 64), GREY)
    source.paste((255, 0, 0), (20, 20, 30, 30))
    page = pixels(draw_overlay(source, Look("?", "!", "zoom", box_px=(20, 20, 30, 30))))
    panel = page[:, 2 * MARGIN_PX + SOURCE_SIDE_PX :]
    assert ((panel == (255, 0, 0)).all(-1)).sum() > 0.9 * CROP_SIDE_PX**2


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (1, 700), (4000, 3)])
def test_any_picture_and_text_can_be_drawn(mode, size):
    look = Look(
        "why? " * 200,
        "x" * 500,
        "zoom",
        0.5,
        np.full((1, 1), np.nan, np.float32),
        (0, 0, 1, 1),
        0.99,
    )
    page = draw_overlay(Image.new(mode, size), look)
    assert page.mode == "RGB"
    assert max(page.size) < 2000
