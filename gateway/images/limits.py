"""What may a picture be? Checked on its header, before anything is allocated for its pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.images.header import FORMATS, Format, sniff_format, stored_size
from qzoom.errors import InvalidRequest, TooLarge, UnsupportedMedia

MIB = 1024**2


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a picture may be, and what its decoding may cost; the operator's to choose.

    Attributes:
        max_pixels: Width times height of one picture.
        max_request_pixels: The same, summed over the pictures of a request.
        max_side_px: Longest side.
        max_aspect_ratio: Longer side over shorter side.
        decode_cpu_s: Longest time that a core may compute on one picture.
        decode_timeout_s: Longest time that one picture may take in its process, on a busy machine.
        decode_memory_bytes: Most memory that one picture may take there.
    """

    max_pixels: int = 64_000_000
    max_request_pixels: int = 64_000_000
    max_side_px: int = 32_768
    max_aspect_ratio: float = 200
    decode_cpu_s: float = 8
    decode_timeout_s: float = 20
    decode_memory_bytes: int = 1536 * MIB


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of an acceptable picture says.

    Attributes:
        image_format: One of `FORMATS`.
        size_px: (width, height) before the EXIF orientation is applied.
    """

    image_format: Format
    size_px: tuple[int, int]

    @property
    def num_pixels(self) -> int:
        """Width times height."""
        return self.size_px[0] * self.size_px[1]


def read_header(data: bytes, limits: ImageLimits, param: str) -> Header:
    """Read and check a picture's header; allocates nothing, takes microseconds.

    Args:
        data: The file.
        limits: What a picture may be.
        param: Field of the request that it came from.

    Raises:
        InvalidRequest: If it is empty or too long for its width.
        TooLarge: If it has too many pixels.
        UnsupportedMedia: If it is of another format, or broken.
    """
    if not data:
        raise InvalidRequest(f"{param} is empty: the picture has 0 bytes", param=param)
    image_format = sniff_format(data)
    if image_format is None:
        accepted = ", ".join(FORMATS)
        raise UnsupportedMedia(f"{param} is no picture in one of {accepted}", param=param)
    size = stored_size(data, image_format)
    if size is None:
        raise UnsupportedMedia(f"{param} is broken: its header cannot be read", param=param)
    width, height = size
    if width * height > limits.max_pixels:
        raise TooLarge(
            f"{param} is {width}x{height} px, {width * height} pixels, at most {limits.max_pixels}",
            param=param,
        )
    if max(size) > limits.max_side_px:
        raise TooLarge(
            f"{param} is {width}x{height} px, no side may exceed {limits.max_side_px} px",
            param=param,
        )
    if max(size) > limits.max_aspect_ratio * min(size):
        raise InvalidRequest(
            f"{param} is {width}x{height} px, the longer side may be at most "
            f"{limits.max_aspect_ratio:g} times the shorter one",
            param=param,
        )
    return Header(image_format, size)


def read_headers(
    files: Sequence[bytes], limits: ImageLimits, params: Sequence[str]
) -> tuple[Header, ...]:
    """Read and check all pictures of a request.

    Raises:
        TooLarge: If they have too many pixels together; and as `read_header`.
    """
    headers = tuple(
        read_header(data, limits, param) for data, param in zip(files, params, strict=True)
    )
    num_pixels = sum(header.num_pixels for header in headers)
    if num_pixels > limits.max_request_pixels:
        raise TooLarge(
            f"the pictures have {num_pixels} pixels together, at most {limits.max_request_pixels}",
            param="messages",
        )
    return headers
