"""How does a file become RGB pixels? Synchronous, and without trust in the file.

Whatever the decoder says about a broken file stays here: its texts have leaked memory addresses
in other servers, so callers see our own words only.
"""

import hashlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from gateway.image_header import FORMATS, sniff_format, webp_size
from qzoom.errors import InvalidRequest, TooLarge, UnsupportedMedia

# Our limit is tighter, and is checked between the header and the first allocation.
Image.MAX_IMAGE_PIXELS = None

_ACCEPTED = ", ".join(FORMATS)
_WHITE = (255, 255, 255)
_DEEP_MODES = {"I", "I;16", "I;16L", "I;16B", "I;16N"}


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a picture may be.

    Attributes:
        max_pixels: Width times height of one picture.
        max_request_pixels: The same, summed over the pictures of a request.
        max_side_px: Longest side.
        max_aspect_ratio: Longer side over shorter side.
        decode_timeout_s: Longest time for the pictures of one request.
    """

    max_pixels: int = 64_000_000
    max_request_pixels: int = 64_000_000
    max_side_px: int = 32_768
    max_aspect_ratio: float = 200
    decode_timeout_s: float = 20


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A decoded picture.

    Attributes:
        pixels: [H, W, 3], uint8, RGB, C-contiguous.
        digest: SHA-256 over size and pixels in hexadecimal: the picture's identity.
    """

    pixels: NDArray[np.uint8]
    digest: str

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[1], self.pixels.shape[0]


def read_size(data: bytes, limits: ImageLimits, param: str) -> tuple[int, int]:
    """Read and check a picture's size from its header; allocates nothing.

    Args:
        data: The file.
        limits: What a picture may be.
        param: Field of the request that it came from.

    Returns:
        size_px: (width, height) before the EXIF orientation is applied.

    Raises:
        InvalidRequest: If it is empty or too long for its width.
        TooLarge: If it has too many pixels.
        UnsupportedMedia: If it is of another format, or broken.
    """
    if not data:
        raise InvalidRequest(f"{param} is empty: the picture has 0 bytes", param=param)
    image_format = sniff_format(data)
    if image_format is None:
        raise UnsupportedMedia(f"{param} is no picture in one of {_ACCEPTED}", param=param)
    size = webp_size(data) if image_format == "WEBP" else _open(data, param).size
    if size is None or min(size) < 1:
        raise UnsupportedMedia(f"{param} has a broken {image_format} header", param=param)
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
    return width, height


def decode(data: bytes, param: str) -> DecodedImage:
    """Decode the first frame to RGB: upright, on white, 8 bits.

    Args:
        data: A file that `read_size` accepted.
        param: Field of the request that it came from.

    Raises:
        UnsupportedMedia: If it is truncated, broken, or holds no colours that we know.
    """
    image = _open(data, param)
    try:
        image.load()
        rgb = np.ascontiguousarray(np.asarray(_to_rgb(_upright(image), param), dtype=np.uint8))
    except UnsupportedMedia:
        raise
    except Exception:
        # Decoders answer broken files with nearly every exception that Python has.
        raise UnsupportedMedia(
            f"{param} is broken or truncated: its pixels cannot be decoded", param=param
        ) from None
    digest = hashlib.sha256(np.array(rgb.shape, dtype=np.int64).tobytes())
    digest.update(rgb.data)
    return DecodedImage(rgb, digest.hexdigest())


def _open(data: bytes, param: str) -> Image.Image:
    try:
        return Image.open(BytesIO(data), formats=FORMATS)
    except Exception:
        raise UnsupportedMedia(
            f"{param} is broken: its header cannot be read", param=param
        ) from None


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a picture whose EXIF data is broken stays as it is."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _to_rgb(image: Image.Image, param: str) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _DEEP_MODES:
        # 16 bits a pixel, also where a 32-bit container holds them.
        grey = np.asarray(image).astype(np.int64).clip(0, 0xFFFF)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in {"F", "LAB", "HSV"}:
        raise UnsupportedMedia(
            f"{param} has {image.mode} pixels, grey, RGB, CMYK and palettes are supported",
            param=param,
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        page = Image.new("RGB", rgba.size, _WHITE)
        page.paste(rgba, mask=rgba.getchannel("A"))
        return page
    return image.convert("RGB")
