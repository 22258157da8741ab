"""Files of every accepted kind become the right pixels, in a real decoding process."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from qzoom.errors import UnsupportedMedia

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


@pytest.fixture
def pixels_of(decode):
    def run(data: bytes) -> np.ndarray:
        pixels = decode(data).pixels
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert pixels.shape[2] == 3
        return pixels.astype(int)

    return run


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_every_pixel(pixels_of, gradient, image_format):
    assert np.array_equal(pixels_of(encode(gradient, image_format)), np.asarray(gradient))


def test_lossy_formats_keep_the_picture(pixels_of, gradient):
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
def test_16_bit_grey_is_scaled_to_8(pixels_of, image_format):
    deep = np.array([[0, 128, 129, 257 * 100, 65535 - 128, 65535]], np.uint16)
    data = encode(Image.fromarray(deep), image_format)
    assert pixels_of(data)[0, :, 0].tolist() == [0, 0, 1, 100, 255, 255]


def test_every_value_of_16_bits_is_rounded(pixels_of):
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = (deep.astype(int) + 128) // 257
    for image_format in ("PNG", "TIFF"):
        pixels = pixels_of(encode(Image.fromarray(deep), image_format))
        assert np.array_equal(pixels[..., 0], expected)


def test_pictures_of_several_strips_have_no_seams(pixels_of):
    y, x = np.mgrid[0:1700, 0:1300]
    colours = np.stack([x % 251, y % 241, (x + y) % 239], axis=-1).astype(np.uint8)
    assert np.array_equal(pixels_of(encode(Image.fromarray(colours), "BMP")), colours)
    alpha = np.dstack([colours, ((x * 3) % 256).astype(np.uint8)])
    whole = Image.new("RGB", (1300, 1700), (255, 255, 255))
    layer = Image.fromarray(alpha)
    whole.paste(layer, mask=layer.getchannel("A"))
    data = encode(layer, "PNG", compress_level=1)
    assert np.array_equal(pixels_of(data), np.asarray(whole))


def test_interlaced_pictures_are_whole(pixels_of):
    # Adam7 with one pixel, then four: rows of the seven passes of a 2x2 picture.
    rows = b"\0" + bytes([10]) + b"\0" + bytes([20]) + b"\0" + bytes([30, 40])
    header = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 1)
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )
    assert pixels_of(data)[..., 0].tolist() == [[10, 20], [30, 40]]


def test_16_bits_in_a_container_of_32_are_scaled_too(pixels_of):
    deep = np.array([[0, 257 * 100, 65535, 10**6, -5]], np.int32)
    data = encode(Image.fromarray(deep), "TIFF")
    assert pixels_of(data)[0, :, 0].tolist() == [0, 100, 255, 255, 0]


def test_16_bit_colour_keeps_the_upper_bits(pixels_of):
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
def test_cmyk_is_not_inverted(pixels_of, image_format, atol):
    ink = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    options = {"quality": 95} if image_format == "JPEG" else {}
    data = encode(ink, image_format, **options)
    assert np.abs(pixels_of(data)[8, 8] - [0, 255, 255]).max() <= atol


def test_alpha_is_laid_on_white(pixels_of):
    rgba = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    rgba.putpixel((1, 0), (0, 0, 0, 0))
    assert pixels_of(encode(rgba, "PNG")).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert pixels_of(encode(half, "PNG"))[0, 0].tolist() == [127, 127, 127]


def test_grey_with_alpha_and_transparent_colours_are_laid_on_white(pixels_of):
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


def test_palettes_and_single_bits_become_colours(pixels_of):
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 8, 7])
    assert pixels_of(encode(palette, "PNG"))[0, 0].tolist() == [9, 8, 7]
    bits = Image.new("1", (2, 1), 0)
    bits.putpixel((1, 0), 1)
    for image_format in ("PNG", "TIFF", "BMP"):
        assert pixels_of(encode(bits, image_format))[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_counts(pixels_of, image_format):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encode(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
    assert pixels_of(data)[5, 5].tolist() == [255, 0, 0]


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(pixels_of, image_format, orientation):
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


def test_broken_exif_data_does_not_spoil_the_picture(pixels_of, gradient):
    data = encode(gradient, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40)
    assert pixels_of(data).shape == (40, 60, 3)


def test_equal_pixels_have_equal_digests(decode, gradient):
    png, bmp = encode(gradient, "PNG"), encode(gradient, "BMP")
    assert decode(png).digest == decode(bmp).digest
    wide, high = (encode(Image.new("RGB", size), "PNG") for size in ((4, 2), (2, 4)))
    assert decode(wide).digest != decode(high).digest
    assert decode(wide).size_px == (4, 2)


def test_kinds_of_pixels_without_a_meaning_are_refused(decode):
    floats = encode(Image.fromarray(np.ones((3, 3), np.float32)), "TIFF")
    with pytest.raises(
        UnsupportedMedia, match="image 0 has pixels of a kind that is not supported"
    ):
        decode(floats)
    lab = ImageCms.profileToProfile(
        Image.new("RGB", (3, 3)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    with pytest.raises(UnsupportedMedia, match="pixels of a kind"):
        decode(encode(lab, "TIFF"))
