"""Which pictures can be asked about? Files, their bytes, pictures in memory, and addresses."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

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


def read_picture(source: "str | Path | bytes | Image.Image") -> Picture:
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


def open_picture(source: "str | Path | bytes | Image.Image") -> "Image.Image":
    """Open a picture as the server sees it, upright; for overlays.

    Raises:
        InvalidRequest: If it is a remote URL, cannot be read, or is no picture.
    """
    import base64  # noqa: PLC0415

    from PIL import Image, ImageOps, UnidentifiedImageError  # noqa: PLC0415

    if isinstance(source, Image.Image):
        return ImageOps.exif_transpose(source)
    picture = read_picture(source)
    data = picture.data
    if picture.url:
        if not picture.url.lower().startswith("data:"):
            raise InvalidRequest("an overlay needs the picture itself, not its address")
        data = base64.b64decode(picture.url.partition(",")[2])
    try:
        with Image.open(BytesIO(data)) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        raise InvalidRequest("this is no picture that can be read") from None
