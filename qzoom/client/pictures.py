"""Which pictures can be asked about? Files, their bytes, pictures in memory, and addresses."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from qzoom.errors import InvalidRequest

if TYPE_CHECKING:
    from PIL import Image

_MAGIC = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
)
_URL_SCHEMES = ("http:", "https:", "data:")

PictureSource: TypeAlias = "str | Path | bytes | Image.Image"
"""A path, the bytes of a file, a Pillow picture, or a URL."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture on its way to the server; either bytes or a URL.

    Attributes:
        data: The encoded file; empty where a URL is sent.
        url: http(s): URL that the server fetches, if it may, or a data: URL.
    """

    data: bytes = b""
    url: str = ""

    @property
    def media_type(self) -> str:
        """Type by the file's first bytes; the server looks at them itself."""
        if self.data[:4] == b"RIFF" and self.data[8:12] == b"WEBP":
            return "image/webp"
        return next(
            (kind for magic, kind in _MAGIC if self.data.startswith(magic)), "image/unknown"
        )


def read_picture(source: PictureSource) -> Picture:
    """Read a picture, or note its address.

    Args:
        source: A path, the bytes of a file, a Pillow picture, or a URL. A text that begins with
            `http:`, `https:` or `data:` is a URL, any other a path.

    Raises:
        InvalidRequest: If the file cannot be read.
    """
    if isinstance(source, bytes):
        return Picture(data=source)
    if isinstance(source, str) and source.lower().startswith(_URL_SCHEMES):
        return Picture(url=source)
    if isinstance(source, str | Path):
        try:
            return Picture(data=Path(source).read_bytes())
        except OSError as error:
            raise InvalidRequest(f"{source} cannot be read: {error.strerror or error}") from None
    file = BytesIO()
    # Lossless, so that the model sees what the caller has.
    source.save(file, "PNG")
    return Picture(data=file.getvalue())
