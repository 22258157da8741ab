"""Pictures made to exhaust whoever opens them cost what a picture may cost, and end in a 4xx."""

import asyncio
import struct
import zlib
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gateway.images.header import FORMATS
from gateway.images.limits import MIB, ImageLimits
from qzoom.errors import QZoomError, TooLarge, UnsupportedMedia

MEMORY_BYTES = 256 * MIB
INFLATED_BYTES = 512 * MIB
"""Beyond the limit here; deflated hundreds of times smaller."""


def encode(image: Image.Image, image_format: str, **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


@cache
def deflated_zeros() -> bytes:
    packer = zlib.compressobj(1)
    block = bytes(MIB)
    return b"".join(packer.compress(block) for _ in range(INFLATED_BYTES // MIB)) + packer.flush()


def png(*chunks: tuple[bytes, bytes], size=(8, 8), kind=2, depth=8) -> bytes:
    """A PNG of given chunks behind its header; the pixels are among them."""
    header = struct.pack(">IIBBBBB", *size, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in ((b"IHDR", header), *chunks, (b"IEND", b""))
    )


PIXELS = (b"IDAT", zlib.compress((b"\0" + bytes(24)) * 8))


def tiff(*tags: tuple[int, int, int, int], data: bytes = b"") -> bytes:
    """A little-endian TIFF whose data begin at byte 8, in front of the directory."""
    start = 8 + len(data)
    body = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return (
        b"II*\0" + struct.pack("<I", start) + data + struct.pack("<H", len(tags)) + body + bytes(4)
    )


def gif_of(num_frames: int) -> bytes:
    frames = [Image.new("P", (8, 8), i % 256) for i in range(num_frames)]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:])


def many_scans(num_scans: int, side: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again, each a pass over all blocks."""
    data = encode(Image.new("L", (side, side), 99), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * num_scans + data[-2:]


def jpeg_with(segment: bytes) -> bytes:
    data = encode(Image.new("RGB", (8, 8)), "JPEG")
    return data[:2] + segment + data[2:]


def profiles(num_bytes: int) -> bytes:
    """JPEG segments of an ICC profile of 255 parts."""
    part = bytes(num_bytes // 255)
    return b"".join(
        b"\xff\xe2" + struct.pack(">H", 16 + len(part)) + b"ICC_PROFILE\0" + bytes([i, 255]) + part
        for i in range(1, 256)
    )


WHOLE = {
    "png, text chunks without number": lambda: png(*[(b"tEXt", b"k\0v")] * 20_000, PIXELS),
    "png, trailing zip": lambda: png(PIXELS) + b"PK\x03\x04" + bytes(1000),
    "jpeg, trailing page": lambda: (
        encode(Image.new("RGB", (8, 8)), "JPEG") + b"<script>alert(1)</script>"
    ),
    "jpeg, large profile": lambda: jpeg_with(profiles(10 * MIB)),
    "jpeg, large exif": lambda: jpeg_with(
        (b"\xff\xe1\xff\xff" + b"Exif\0\0" + bytes(65_527)) * 100
    ),
    "gif, ten thousand frames": lambda: gif_of(10_000),
    "gif, a page in its comment": lambda: encode(
        Image.new("P", (8, 8)), "GIF", comment=b"*/=1;alert(1)//<script>"
    ),
    "jpeg, says it is png": lambda: encode(Image.new("RGB", (8, 8)), "JPEG"),
}
"""They hold a picture of 8x8 px: what is around it must cost nothing."""

BROKEN = {
    "png, compressed text": lambda: png(
        (b"zTXt", b"k\0\0" + deflated_zeros()), PIXELS
    ),
    "png, international text": lambda: png(
        (b"iTXt", b"k\0\1\0\0\0" + deflated_zeros()), PIXELS
    ),
    "png, profile": lambda: png((b"iCCP", b"k\0\0" + deflated_zeros()), PIXELS),
    "png, two headers": lambda: png(
        (b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)), PIXELS
    ),
    "png, no pixels": png,
    "png, wrong sum": lambda: png(PIXELS).replace(PIXELS[1], PIXELS[1][:-1] + b"x"),
    "gif, second screen": lambda: b"GIF89a\x08\0\x08\0\0\0\0" + bytes(200),
    "bmp, offset beyond the end": lambda: encode(Image.new("RGB", (8, 8)), "BMP").replace(
        struct.pack("<I", 54), b"\xff\xff\xff\x7f", 1
    ),
    "webp, canvas without a frame": lambda: (
        b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\x07\0\0\x07\0\0"
    ),
    "tiff, strips beyond the end": lambda: tiff(
        (256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 2**31),
        (279, 4, 1, 2**31),
    ),
    "tiff, enormous tiles": lambda: tiff(
        (256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1),
        (322, 4, 1, 2**26), (323, 4, 1, 2**26), (324, 4, 1, 8), (325, 4, 1, 64), data=bytes(64),
    ),
    "tiff, a thousand samples": lambda: tiff(
        (256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8),
        (277, 3, 1, 1000), (279, 4, 1, 64), data=bytes(64),
    ),
    "page": lambda: b"BM<html><script>alert(1)</script>" + bytes(100),
}  # fmt: skip
"""They hold no picture, or hide it behind gigabytes."""


@pytest.fixture(scope="module")
def peak_bytes(shared_decoder):
    """Most memory that any decoding process has had, beside the libraries that it began with."""

    def read() -> int:
        peaks = []
        for pid in shared_decoder.pids:
            status = Path(f"/proc/{pid}/status").read_text()
            peaks.append(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
        return max(peaks)

    return read


@pytest.mark.parametrize("name", WHOLE)
def test_a_small_picture_costs_little_whatever_surrounds_it(decode, peak_bytes, name):
    assert decode(WHOLE[name]()).size_px == (8, 8)
    assert peak_bytes() < MEMORY_BYTES


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_picture_is_refused_in_our_words(decode, peak_bytes, name):
    with pytest.raises(UnsupportedMedia, match=r"^image 0 is broken") as error:
        decode(BROKEN[name]())
    assert error.value.message in (
        "image 0 is broken: its header cannot be read",
        "image 0 is broken or truncated: its pixels cannot be decoded",
    )
    assert peak_bytes() < MEMORY_BYTES


def test_pixels_that_inflate_without_end_are_not_followed(decode, peak_bytes):
    image = decode(png((b"IDAT", deflated_zeros())))
    assert not image.pixels.any()
    assert peak_bytes() < MEMORY_BYTES


async def test_a_picture_that_needs_too_much_memory_is_refused(make_decoder, request_of):
    decoder = make_decoder(ImageLimits(decode_memory_bytes=64 * MIB), num_processes=1)
    files = {
        "GIF": encode(Image.new("P", (8000, 8000)), "GIF"),
        "PNG": encode(Image.new("L", (8000, 8000)), "PNG"),
        "WEBP": encode(Image.new("RGB", (8000, 8000)), "WEBP", lossless=True, method=0),
    }
    for name, data in files.items():
        assert len(data) < MIB, name
        with pytest.raises(QZoomError) as error:
            await decoder.decode(request_of(data))
        assert error.value.http_status in (413, 415), name
    with pytest.raises(TooLarge, match=f"more than {64 * MIB} bytes of memory"):
        await decoder.decode(request_of(files["PNG"]))
    assert await decoder.decode(request_of(png(PIXELS)))


async def test_a_picture_that_computes_too_long_is_refused(make_decoder, request_of):
    decoder = make_decoder(ImageLimits(decode_cpu_s=0.5, decode_timeout_s=60), num_processes=1)
    await decoder.decode(request_of(png(PIXELS)))
    (pid,) = decoder.pids
    bomb = many_scans(num_scans=10_000, side=7000)
    assert len(bomb) < 2 * MIB
    with pytest.raises(TooLarge, match=r"image 0 takes more than 0\.5 s to decode"):
        await decoder.decode(request_of(bomb))
    assert decoder.pids != [pid]
    assert await decoder.decode(request_of(png(PIXELS)))


@pytest.mark.parametrize("image_format", FORMATS)
def test_truncated_files_are_refused(decode, image_format):
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    data = encode(Image.fromarray(noise), image_format)
    for kept in (0.02, 0.1, 0.5, 0.9):
        with pytest.raises(UnsupportedMedia, match=r"^image 0 is "):
            decode(data[: int(len(data) * kept)])


@given(st.sampled_from(FORMATS), st.data())
@settings(max_examples=300)
def test_damaged_files_end_in_our_own_errors(shared_decoder, request_of, image_format, data):
    file = bytearray(encode(Image.new("RGB", (24, 16), (9, 200, 30)), image_format))
    for _ in range(data.draw(st.integers(1, 6))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    refusal = None
    try:
        asyncio.run(shared_decoder.decode(request_of(bytes(file))))
    except QZoomError as error:
        refusal = error
    assert refusal is None or refusal.http_status in (400, 413, 415)
    assert refusal is None or refusal.message.startswith("image 0 ")
