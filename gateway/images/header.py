"""What does a file claim to be? Format and size from its first bytes, before any decoder runs.

Read by hand: image libraries allocate, inflate and recurse when they merely open a file. The walks
below touch a bounded number of places and allocate nothing; the decoder later refuses a file whose
size it reads differently.
"""

from collections.abc import Callable
from typing import Literal

Format = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]
FORMATS: tuple[Format, ...] = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
Size = tuple[int, int]

MAX_STEPS = 10_000
"""Segments, blocks or tags that are passed on the way to the size; cameras write a few dozen."""

_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
)


def sniff_format(data: bytes) -> Format | None:
    """Tell the format by its signature; None if it is none of ours."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((name for magic, name in _MAGIC if data.startswith(magic)), None)


def stored_size(data: bytes, image_format: Format) -> Size | None:
    """Read (width, height) in pixels of the first frame, before any orientation is applied.

    Args:
        data: The file.
        image_format: What `sniff_format` says.

    Returns:
        None if the header is broken, or longer than any honest one.
    """
    try:
        size = _READERS[image_format](data)
    except IndexError:  # The file ends within its header.
        return None
    return None if size is None or min(size) < 1 else size


def _number(data: bytes, at: int, num_bytes: int, order: Literal["little", "big"]) -> int:
    if at + num_bytes > len(data):
        raise IndexError(at)
    return int.from_bytes(data[at : at + num_bytes], order)


def _jpeg(data: bytes) -> Size | None:
    """Find the frame header (ITU-T T.81, B.2.2) among the segments before the first scan."""
    at = 2
    for _ in range(MAX_STEPS):
        at = data.find(b"\xff", at)
        if at < 0:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # Padding.
            at += 1
        elif marker in (0, 1) or 0xD0 <= marker <= 0xD8:  # No length follows.
            at += 2
        elif marker in (0xD9, 0xDA):
            return None
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _number(data, at + 7, 2, "big"), _number(data, at + 5, 2, "big")
        else:
            at += 2 + _number(data, at + 2, 2, "big")
    return None


def _png(data: bytes) -> Size | None:
    """Read IHDR, the first chunk (PNG specification, 11.2.2)."""
    if data[12:16] != b"IHDR":
        return None
    return _number(data, 16, 4, "big"), _number(data, 20, 4, "big")


def _webp(data: bytes) -> Size | None:
    """Read the first chunk; its three kinds hold the size differently (RFC 9649, 2.5 to 2.7)."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + _number(data, 24, 3, "little"), 1 + _number(data, 27, 3, "little")
    if chunk == b"VP8L" and data[20] == 0x2F:
        bits = _number(data, 21, 4, "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = _number(data, 26, 2, "little"), _number(data, 28, 2, "little")
        return width & 0x3FFF, height & 0x3FFF
    return None


def _gif(data: bytes) -> Size | None:
    """Join the screen and the first frame (GIF89a, 18 and 20), which may reach beyond it."""
    width, height = _number(data, 6, 2, "little"), _number(data, 8, 2, "little")
    flags = data[10]
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    for _ in range(MAX_STEPS):
        kind = data[at]
        if kind == 0x2C:
            left, top, frame_width, frame_height = (
                _number(data, at + 1 + 2 * i, 2, "little") for i in range(4)
            )
            return max(width, left + frame_width), max(height, top + frame_height)
        if kind == 0x21:  # An extension: a label, then sub-blocks up to an empty one.
            at += 2
            for _ in range(MAX_STEPS):
                length = data[at]
                at += 1 + length
                if length == 0:
                    break
            else:
                return None
        elif kind == 0x3B:
            return None
        else:
            at += 1
    return None


def _bmp(data: bytes) -> Size | None:
    """Read the information header; a negative height means top to bottom."""
    header_bytes = _number(data, 14, 4, "little")
    if header_bytes == 12:
        return _number(data, 18, 2, "little"), _number(data, 20, 2, "little")
    if header_bytes not in (40, 52, 56, 64, 108, 124):
        return None
    height = _number(data, 22, 4, "little")
    return _number(data, 18, 4, "little"), 2**32 - height if data[25] == 0xFF else height


_TIFF_SIZE_TAGS = {256: 0, 257: 1}
_TIFF_BYTES = {3: 2, 4: 4}  # SHORT, LONG


def _tiff(data: bytes) -> Size | None:
    """Read ImageWidth and ImageLength of the first directory (TIFF 6.0, section 2)."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    directory = _number(data, 4, 4, order)
    num_tags = _number(data, directory, 2, order)
    if num_tags > MAX_STEPS:
        return None
    size = [0, 0]
    for at in range(directory + 2, directory + 2 + 12 * num_tags, 12):
        place = _TIFF_SIZE_TAGS.get(_number(data, at, 2, order))
        if place is not None:
            num_bytes = _TIFF_BYTES.get(_number(data, at + 2, 2, order))
            if num_bytes is None or _number(data, at + 4, 4, order) != 1:
                return None
            size[place] = _number(data, at + 8, num_bytes, order)
    return size[0], size[1]


_READERS: dict[Format, Callable[[bytes], Size | None]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "BMP": _bmp,
    "TIFF": _tiff,
}
