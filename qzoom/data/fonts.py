"""Where the fonts are that codes are printed in; both families come pinned from PyPI.

DejaVu (Bitstream Vera licence) ships inside matplotlib, Roboto (Apache-2.0) in font-roboto.
"""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

_FILES: dict[str, tuple[str, str]] = {
    "DejaVu Sans": ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf"),
    "DejaVu Sans Bold": ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans-Bold.ttf"),
    "Roboto": ("font_roboto", "files/Roboto-Regular.ttf"),
    "Roboto Medium": ("font_roboto", "files/Roboto-Medium.ttf"),
}

FONT_NAMES: tuple[str, ...] = tuple(_FILES)


def font_path(name: str) -> Path:
    """File of a font.

    Args:
        name: One of `FONT_NAMES`.

    Returns:
        Path of the TrueType file inside the installed package.

    Raises:
        FileNotFoundError: If the package or the file is missing (extra `train`).
    """
    package, relative = _FILES[name]
    spec = find_spec(package)
    path = Path(spec.origin).parent / relative if spec and spec.origin else None
    if path is None or not path.is_file():
        raise FileNotFoundError(f"font {name!r} comes with {package}: install qzoom[train]")
    return path


@lru_cache(maxsize=512)
def load_font(name: str, size_px: int) -> ImageFont.FreeTypeFont:
    """Open a font once per size."""
    return ImageFont.truetype(str(font_path(name)), size_px)


@lru_cache(maxsize=8192)
def char_width(name: str, size_px: int, char: str) -> float:
    """Advance width of one character in pixels."""
    return float(load_font(name, size_px).getlength(char))
