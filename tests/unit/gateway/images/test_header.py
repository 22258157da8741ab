"""Format, size and limits are read from the header, without a decoder."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gateway.images.header import FORMATS, MAX_STEPS, sniff_format, stored_size
from gateway.images.limits import ImageLimits, read_header, read_headers
from qzoom.errors import InvalidRequest, QZoomError, TooLarge, UnsupportedMedia

LIMITS = ImageLimits()
HUGE_PX = 60_000


def encode(image: Image.Image, image_format: str, **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (123, 45), (300, 700)])
def test_the_size_is_what_a_decoder_says(image_format, size):
    for mode in ("RGB", "L", "1") if image_format == "JPEG" else ("RGB", "L", "P", "1", "RGBA"):
        data = encode(Image.new(mode, size), image_format)
        assert sniff_format(data) == image_format
        assert stored_size(data, image_format) == size


@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 50}),
        ("WEBP", {"exif": b"Exif\0\0"}),
        ("JPEG", {"progressive": True, "exif": b"Exif\0\0" + bytes(60_000), "comment": b"x" * 999}),
        ("PNG", {"bits": 8, "optimize": True}),
        ("GIF", {"comment": b"x" * 5000}),
        ("TIFF", {"compression": "tiff_lzw", "description": "x" * 999}),
        ("TIFF", {"big_tiff": False, "tiffinfo": {270: "later tags"}}),
    ],
)
def test_the_size_is_found_behind_other_parts(image_format, options):
    assert stored_size(encode(Image.new("RGB", (123, 45)), image_format, **options), image_format)


def test_both_byte_orders_of_tiff_are_read():
    tags = [(256, 3, 1, 640), (257, 4, 1, 480)]
    for mark, order in ((b"II*\0", "<"), (b"MM\0*", ">")):
        data = mark + struct.pack(f"{order}IH", 8, len(tags))
        for tag, kind, count, value in tags:
            packed = (
                struct.pack(f"{order}H", value) if kind == 3 else struct.pack(order + "I", value)
            )
            data += struct.pack(f"{order}HHI", tag, kind, count) + packed.ljust(4, b"\0")
        assert stored_size(data, "TIFF") == (640, 480)


def test_bitmaps_from_top_to_bottom_have_their_height():
    data = bytearray(encode(Image.new("RGB", (5, 7)), "BMP"))
    data[22:26] = struct.pack("<i", -7)
    assert stored_size(bytes(data), "BMP") == (5, 7)


def test_a_frame_beyond_the_screen_counts():
    data = bytearray(encode(Image.new("P", (4, 4)), "GIF"))
    frame = data.index(b"\x2c")
    data[frame + 1 : frame + 9] = struct.pack("<4H", 100, 200, HUGE_PX, HUGE_PX)
    assert stored_size(bytes(data), "GIF") == (HUGE_PX + 100, HUGE_PX + 200)
    with pytest.raises(TooLarge):
        read_header(bytes(data), LIMITS, "p")


@pytest.mark.parametrize(
    ("image_format", "data"),
    [
        ("JPEG", b"\xff\xd8" + b"\xff\xe0\0\x02" * (MAX_STEPS + 1)),
        ("GIF", b"GIF89a" + bytes(7) + b"!\xfe\x01x\0" * (MAX_STEPS + 1)),
        ("GIF", b"GIF89a" + bytes(7) + b"!\xfe" + b"\x01x" * (MAX_STEPS + 1)),
        ("TIFF", b"II*\0\x08\0\0\0\xff\xff" + bytes(12 * 65535)),
        ("TIFF", b"II*\0\xff\xff\xff\xff"),
        ("JPEG", b"\xff\xd8\xff\xff\xff\xff"),
        ("PNG", b"\x89PNG\r\n\x1a\n\0\0\0\x0dtEXt" + bytes(30)),
        ("BMP", b"BM" + b"\xff" * 40),
        ("WEBP", b"RIFF\0\0\0\0WEBPVP8L" + bytes(30)),
    ],
)
def test_headers_without_an_end_or_a_size_are_refused(image_format, data):
    assert stored_size(data, image_format) is None


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"\0\0\0\x20ftypavif",
        b"8BPS",
        b"\x00\x00\x01\x00" + b"\0" * 100,
        b"\xff\x4f\xff\x51" + b"\0" * 100,
        b"RIFF\0\0\0\0AVI ",
        b"II+\0\x08\0\0\0",
    ],
    ids=repr,
)
def test_other_formats_are_refused(data):
    with pytest.raises(UnsupportedMedia, match="JPEG, PNG, WEBP, GIF, BMP, TIFF"):
        read_header(data, LIMITS, "p")


def test_an_empty_file_is_refused():
    with pytest.raises(InvalidRequest, match="0 bytes"):
        read_header(b"", LIMITS, "p")


def forged_headers() -> dict[str, bytes]:
    """Small files that claim to be 60000x60000 px."""
    side = HUGE_PX
    small = Image.new("RGB", (8, 8))
    png = bytearray(encode(small, "PNG"))
    png[16:24] = side.to_bytes(4, "big") * 2
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    gif = bytearray(encode(small.convert("P"), "GIF"))
    gif[6:10] = side.to_bytes(2, "little") * 2
    bmp = bytearray(encode(small, "BMP"))
    bmp[18:26] = side.to_bytes(4, "little") * 2
    jpeg = bytearray(encode(small, "JPEG"))
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = side.to_bytes(2, "big") * 2
    webp = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (side - 1).to_bytes(3, "little") * 2
    tiff = bytearray(encode(small, "TIFF"))
    for tag in (256, 257):  # ImageWidth, ImageLength: as Pillow writes them, one LONG
        at = tiff.index(struct.pack("<HHI", tag, 4, 1)) + 8
        tiff[at : at + 4] = side.to_bytes(4, "little")
    return {
        "PNG": bytes(png),
        "GIF": bytes(gif),
        "BMP": bytes(bmp),
        "JPEG": bytes(jpeg),
        "WEBP": webp,
        "TIFF": bytes(tiff),
    }


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_huge_picture_is_refused_by_its_header(image_format):
    with pytest.raises(TooLarge, match="60000x60000 px, 3600000000 pixels, at most 64000000"):
        read_header(forged_headers()[image_format], LIMITS, "p")


def test_long_and_thin_pictures_are_refused():
    with pytest.raises(InvalidRequest, match="at most 200 times"):
        read_header(encode(Image.new("L", (201, 1)), "PNG"), LIMITS, "p")
    assert read_header(encode(Image.new("L", (200, 1)), "PNG"), LIMITS, "p").num_pixels == 200
    with pytest.raises(TooLarge, match="no side may exceed 32768 px"):
        read_header(encode(Image.new("1", (40_000, 300)), "PNG"), LIMITS, "p")


def test_all_pictures_together_are_limited():
    limits = ImageLimits(max_request_pixels=150)
    square = encode(Image.new("L", (10, 10)), "PNG")
    assert read_headers([square], limits, ["p"])
    with pytest.raises(TooLarge, match="200 pixels together, at most 150"):
        read_headers([square, square], limits, ["p", "q"])


@given(st.sampled_from(FORMATS), st.binary(max_size=200), st.integers(0, 100))
@settings(max_examples=2000)
def test_any_header_is_read_or_refused(image_format, noise, at):
    start = encode(Image.new("RGB", (24, 16)), image_format)
    data = start[:at] + noise
    size = stored_size(data, image_format)
    assert size is None or min(size) > 0
    refusal = None
    try:
        read_header(data, LIMITS, "p")
    except QZoomError as error:
        refusal = error
    assert refusal is None or refusal.http_status in (400, 413, 415)


def test_a_size_beyond_32_bits_does_not_wrap_around():
    png = bytearray(encode(Image.fromarray(np.zeros((4, 4), np.uint8)), "PNG"))
    png[16:24] = struct.pack(">II", 2**32 - 1, 2**32 - 1)
    with pytest.raises(TooLarge):
        read_header(bytes(png), LIMITS, "p")
