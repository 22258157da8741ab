"""How does a picture of any kind become RGB? Upright, on white, 8 bits, the same way everywhere.

The gateway's decoding processes, the command line, overlays and the readers of data sets all call
this, so that a file has the same pixels wherever it is opened. Needs Pillow alone.
"""

from PIL import Image, ImageOps

UNKNOWN_MODES = frozenset({"F", "LAB", "HSV"})
"""Pillow's modes whose numbers are no colours that we know."""

_WHITE = (255, 255, 255)
_DEEP_MODES = {"I", "I;16", "I;16L", "I;16B", "I;16N"}


def upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a picture whose EXIF data is broken stays as it is."""
    try:
        return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:
        # Broken EXIF data is answered with nearly every exception that Python has.
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Lay transparency on white, round 16 bits to 8, and convert what is left to mode RGB.

    Args:
        image: A picture, or a strip of one; the result is the same for strips.

    Raises:
        ValueError: If its mode is one of `UNKNOWN_MODES`.
    """
    if image.mode in UNKNOWN_MODES:
        raise ValueError(f"pixels of mode {image.mode} are no colours that are known")
    if image.mode in _DEEP_MODES:
        return _to_8_bits(image).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        page = Image.new("RGB", rgba.size, _WHITE)
        page.paste(rgba, mask=rgba.getchannel("A"))
        return page
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Round 16 bits a pixel, also where a 32-bit container holds them, to 8: v / 257."""
    wide = image if image.mode == "I" else image.convert("I")
    # Pillow computes factor * v + offset in double precision, cuts the fraction off, and clips to
    # 0..255 when it leaves mode I. The offset is a half, less what keeps 128 below 1.
    return wide.point(lambda value: value * (1 / 257) + 128.5 / 257).convert("L")
