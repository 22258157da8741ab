"""Is this picture there, inside its folder, and readable? Checked by its header, not decoded."""

from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from qzoom.data.readers.problems import BadRecord
from qzoom.data.record import PictureBytes, PictureFile

MAX_PIXELS = 170_000_000
"""Larger pictures are refused; below the size at which Pillow calls a file a bomb."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Formats that the gateway takes too, or that benchmarks use."""


class ImageFolder:
    """Pictures that a data set names by path.

    Args:
        root: Folder that the paths are relative to; nothing outside it is opened.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def find(self, name: object) -> PictureFile:
        """Look a picture up.

        Args:
            name: Its path, as the data set gives it; absolute ones must lie in the root too.

        Raises:
            BadRecord: If it is no path, leaves the root, is missing or is no readable picture.
        """
        if not isinstance(name, str) or not name or "\0" in name:
            raise BadRecord("the image is no path", repr(name)[:80])
        try:
            path = (self.root / name).resolve()
            is_file = path.is_file()
        except (OSError, RuntimeError) as error:  # too long a name, a loop of links
            raise BadRecord("the image cannot be opened", f"{name[:80]!r}, {error}") from None
        if not path.is_relative_to(self.root):
            raise BadRecord("the image lies outside the image folder", repr(name))
        if not is_file:
            raise BadRecord("the image is missing", name)
        check_header(path, name)
        return PictureFile(path)


def image_bytes(data: bytes, name: str = "") -> PictureBytes:
    """Take a picture whose file is held inside another.

    Raises:
        BadRecord: If it is no readable picture.
    """
    check_header(BytesIO(data), name or f"{len(data)} bytes")
    return PictureBytes(data)


def check_header(source: Path | BytesIO, name: str) -> None:
    """Read the header only.

    Raises:
        BadRecord: If the format is not one of `FORMATS`, or there are too many pixels.
    """
    try:
        with Image.open(source, formats=FORMATS) as image:
            width, height = image.size
    except UnidentifiedImageError:
        raise BadRecord("the image is no picture that can be read", name) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadRecord("the image is too large", name) from None
    except (OSError, ValueError, SyntaxError) as error:  # Pillow's plugins raise all of these
        raise BadRecord("the image cannot be opened", f"{name}, {error}") from None
    if width * height > MAX_PIXELS:
        raise BadRecord("the image is too large", f"{name}, {width}x{height} px")
