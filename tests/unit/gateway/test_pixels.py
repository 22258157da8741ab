"""Files of every accepted kind become the right pixels; hostile ones become our own errors."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from gateway.image_header import FORMATS, sniff_format, webp_size
from gateway.pixels import ImageLimits, decode, read_size
from qzoom.errors import InvalidRequest, QZoomError, TooLarge, UnsupportedMedia

LIMITS = ImageLimits()
JPEG_ATOL = 6  # of 255, at quality 95 on a smooth picture


def encode(image: Image.Image, image_format: str, **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


@pytest.fixture
def gradient() -> Image.Image:
    """60x40 px, smooth, different in each channel and corner."""
    y, x = np.mgrid[0:40, 0:60]
    pixels = np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels)


def pixels_of(data: bytes) -> np.ndarray:
    read_size(data, LIMITS, "p")
    decoded = decode(data, "p").pixels
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    assert decoded.shape[2] == 3
    return decoded.astype(int)


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_every_pixel(gradient, image_format):
    assert np.array_equal(pixels_of(encode(gradient, image_format)), np.asarray(gradient))


def test_lossy_formats_keep_the_picture(gradient):
    for data in (
        encode(gradient, "JPEG", quality=95, subsampling=0),
        encode(gradient, "WEBP", lossless=True),
        encode(gradient, "WEBP", quality=95, lossless=False),
    ):
        # WebP stores half the colour resolution, which costs more at the edges.
        error = np.abs(pixels_of(data) - np.asarray(gradient))
        assert error.mean() < JPEG_ATOL / 2
        assert error.max() < 4 * JPEG_ATOL


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_to_8(image_format):
    deep = np.array([[0, 128, 129, 257 * 100, 65535 - 128, 65535]], np.uint16)
    data = encode(Image.fromarray(deep), image_format)
    assert pixels_of(data)[0, :, 0].tolist() == [0, 0, 1, 100, 255, 255]


def test_16_bits_in_a_container_of_32_are_scaled_too():
    deep = np.array([[0, 257 * 100, 65535, 10**6, -5]], np.int32)
    data = encode(Image.fromarray(deep), "TIFF")
    assert pixels_of(data)[0, :, 0].tolist() == [0, 100, 255, 255, 0]


def test_16_bit_colour_keeps_the_upper_bits():
    # Pillow cannot write such a file: PNG with one pixel, 16 bits, colour type 2.
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">3H", 0x1234, 0x80FF, 0xFFFF)))
        + chunk(b"IEND", b"")
    )
    assert pixels_of(data)[0, 0].tolist() == [0x12, 0x80, 0xFF]


@pytest.mark.parametrize(("image_format", "atol"), [("TIFF", 0), ("JPEG", JPEG_ATOL)])
def test_cmyk_is_not_inverted(image_format, atol):
    ink = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    options = {"quality": 95} if image_format == "JPEG" else {}
    data = encode(ink, image_format, **options)
    assert np.abs(pixels_of(data)[8, 8] - [0, 255, 255]).max() <= atol


def test_alpha_is_laid_on_white():
    rgba = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    rgba.putpixel((1, 0), (0, 0, 0, 0))
    assert pixels_of(encode(rgba, "PNG")).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert pixels_of(encode(half, "PNG"))[0, 0].tolist() == [127, 127, 127]


def test_grey_with_alpha_and_transparent_colours_are_laid_on_white():
    grey = Image.new("LA", (2, 1), (10, 255))
    grey.putpixel((1, 0), (10, 0))
    assert pixels_of(encode(grey, "PNG"))[0, :, 0].tolist() == [10, 255]
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([9, 8, 7, 1, 2, 3])
    palette.putpixel((1, 0), 1)
    for image_format in ("PNG", "GIF"):
        data = encode(palette, image_format, transparency=1)
        assert pixels_of(data).tolist() == [[[9, 8, 7], [255, 255, 255]]]
    key = encode(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert pixels_of(key)[0, 0].tolist() == [255, 255, 255]


def test_palettes_and_single_bits_become_colours():
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 8, 7])
    assert pixels_of(encode(palette, "PNG"))[0, 0].tolist() == [9, 8, 7]
    bits = Image.new("1", (2, 1), 0)
    bits.putpixel((1, 0), 1)
    for image_format in ("PNG", "TIFF", "BMP"):
        assert pixels_of(encode(bits, image_format))[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_counts(image_format):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encode(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
    assert pixels_of(data)[5, 5].tolist() == [255, 0, 0]


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(image_format, orientation):
    upright = Image.new("RGB", (64, 32), (0, 0, 0))
    upright.paste((255, 255, 255), (0, 0, 32, 16))  # white upper left quarter
    # How a camera stores an upright picture for each orientation (EXIF 2.3, tag 0x0112).
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = pixels_of(encode(stored, image_format, exif=exif))
    assert pixels.shape == (32, 64, 3)
    assert pixels[8, 16].min() > 240
    assert pixels[24, 48].max() < 15


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow's, to operators
def test_broken_exif_data_does_not_spoil_the_picture(gradient):
    data = encode(gradient, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40)
    assert pixels_of(data).shape == (40, 60, 3)


def test_equal_pixels_have_equal_digests(gradient):
    png, bmp = encode(gradient, "PNG"), encode(gradient, "BMP")
    assert decode(png, "p").digest == decode(bmp, "p").digest
    wide, high = (encode(Image.new("RGB", size), "PNG") for size in ((4, 2), (2, 4)))
    assert decode(wide, "p").digest != decode(high, "p").digest
    assert decode(wide, "p").size_px == (4, 2)


@pytest.mark.parametrize("image_format", FORMATS)
def test_truncated_files_are_refused(image_format):
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    data = encode(Image.fromarray(noise), image_format)
    for kept in (0.1, 0.5, 0.9):
        part = data[: int(len(data) * kept)]
        with pytest.raises(UnsupportedMedia, match=r"^p is broken"):
            pixels_of(part)


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"\0\0\0\x20ftypavif",
        b"8BPS",
        b"\x00\x00\x01\x00" + b"\0" * 100,
        b"\xff\x4f\xff\x51" + b"\0" * 100,
        b"RIFF\0\0\0\0AVI ",
    ],
    ids=repr,
)
def test_other_formats_are_refused(data):
    with pytest.raises(UnsupportedMedia, match="JPEG, PNG, WEBP, GIF, BMP, TIFF"):
        read_size(data, LIMITS, "p")


def test_an_empty_file_is_refused():
    with pytest.raises(InvalidRequest, match="0 bytes"):
        read_size(b"", LIMITS, "p")


def test_kinds_of_pixels_without_a_meaning_are_refused():
    floats = encode(Image.fromarray(np.ones((3, 3), np.float32)), "TIFF")
    with pytest.raises(UnsupportedMedia, match="p has F pixels"):
        decode(floats, "p")
    lab = ImageCms.profileToProfile(
        Image.new("RGB", (3, 3)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    with pytest.raises(UnsupportedMedia, match="p has LAB pixels"):
        decode(encode(lab, "TIFF"), "p")


def forged_headers() -> dict[str, bytes]:
    """Small files that claim to be 60000x60000 px."""
    side = 60_000
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
        read_size(forged_headers()[image_format], LIMITS, "p")


def test_long_and_thin_pictures_are_refused():
    with pytest.raises(InvalidRequest, match="at most 200 times"):
        read_size(encode(Image.new("L", (201, 1)), "PNG"), LIMITS, "p")
    assert read_size(encode(Image.new("L", (200, 1)), "PNG"), LIMITS, "p") == (200, 1)
    with pytest.raises(TooLarge, match="no side may exceed 32768 px"):
        read_size(encode(Image.new("1", (40_000, 300)), "PNG"), LIMITS, "p")


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 50}, {"exif": b"Exif\0\0"}])
def test_the_size_of_a_webp_is_read_without_a_decoder(options):
    data = encode(Image.new("RGBA", (123, 45), (1, 2, 3, 4)), "WEBP", **options)
    assert sniff_format(data) == "WEBP"
    assert webp_size(data) == (123, 45)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(st.sampled_from(FORMATS), st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_files_end_in_our_own_errors(image_format, data):
    file = bytearray(encode(Image.new("RGB", (24, 16), (9, 200, 30)), image_format))
    for _ in range(data.draw(st.integers(1, 6))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    refusal = None
    try:
        read_size(bytes(file), LIMITS, "p")
        decode(bytes(file), "p")
    except QZoomError as error:
        refusal = error
    assert refusal is None or (refusal.param == "p" and refusal.message.startswith("p "))
