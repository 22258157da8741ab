"""How does a file become RGB pixels? Runs in a decoding process, without trust in the file.

A picture is decoded once, turned upright, and then becomes RGB in strips, so that beside the
decoder's own buffers no second picture is in memory. Needs Pillow alone.
"""

import hashlib
import struct
from collections.abc import Iterator
from io import BytesIO

from PIL import Image

from gateway.images.protocol import CHANNELS, Job, Outcome, Reply
from qzoom.rgb import UNKNOWN_MODES, to_rgb, upright

# Our limit is tighter, and was checked on the header.
Image.MAX_IMAGE_PIXELS = None

STRIP_PIXELS = 1 << 18


class Refused(Exception):
    """The file is not decoded; the outcome says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.name)
        self.outcome = outcome


def decode(data: bytes, job: Job, pixels: memoryview) -> Reply:
    """Decode the first frame to RGB: upright, on white, 8 bits.

    Args:
        data: The file.
        job: What its header claims.
        pixels: Receives height * width * 3 bytes.

    Returns:
        The size after the orientation was applied, and the SHA-256 over [H, W, 3] as three 64-bit
        integers and the pixels.

    Raises:
        Refused: If it is broken, or not what its header claims, or holds no colours that we know.
    """
    image = upright(_load(data, job))
    width, height = image.size
    digest = hashlib.sha256(struct.pack("<3q", height, width, CHANNELS))
    at = 0
    for strip in _strips(image):
        pixels[at : at + len(strip)] = strip
        digest.update(strip)
        at += len(strip)
    return Reply(Outcome.DECODED, width, height, digest.digest())


def _load(data: bytes, job: Job) -> Image.Image:
    try:
        image = Image.open(BytesIO(data), formats=(job.image_format,))
    except MemoryError:
        raise
    except Exception:
        raise Refused(Outcome.BROKEN_HEADER) from None
    # A TIFF with an orientation opens with the sides exchanged.
    if sorted(image.size) != sorted((job.width, job.height)):
        raise Refused(Outcome.BROKEN_HEADER)
    if image.mode in UNKNOWN_MODES:
        raise Refused(Outcome.UNKNOWN_PIXELS)
    try:
        image.load()
    except MemoryError:
        raise
    except Exception:
        # Decoders answer broken files with nearly every exception that Python has.
        raise Refused(Outcome.BROKEN_PIXELS) from None
    if sorted(image.size) != sorted((job.width, job.height)):
        raise Refused(Outcome.BROKEN_HEADER)
    return image


def _strips(image: Image.Image) -> Iterator[bytes]:
    """Yield the RGB bytes of the picture from the top to the bottom."""
    width, height = image.size
    num_rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, num_rows):
        strip = image.crop((0, top, width, min(top + num_rows, height)))
        yield to_rgb(strip).tobytes()
