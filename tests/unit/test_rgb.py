"""A file has the same pixels wherever it is opened: gateway, command line, overlay, data set."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cli.ask import _read
from gateway.images.convert import decode
from gateway.images.protocol import Job
from qzoom.client.overlays import open_picture
from qzoom.data.record import PictureBytes
from qzoom.rgb import to_rgb

y, x = np.mgrid[0:40, 0:60]
COLOURS = np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).astype(np.uint8)
ORIENTATION = 0x0112


def encode(image, image_format="PNG", **options):
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def rotated():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return encode(Image.fromarray(COLOURS), "JPEG", exif=exif)


def transparent():
    alpha = (x * 4).astype(np.uint8)
    return encode(Image.fromarray(np.dstack([COLOURS, alpha])))


def palette_with_transparency():
    return encode(Image.fromarray(COLOURS).quantize(16), transparency=3)


FILES = {
    "16 bits": ("PNG", encode(Image.fromarray((x * 1000).astype(np.uint16)))),
    "CMYK": ("JPEG", encode(Image.fromarray(COLOURS).convert("CMYK"), "JPEG")),
    "grey with alpha": ("PNG", encode(Image.fromarray(COLOURS).convert("LA"))),
    "palette": ("PNG", palette_with_transparency()),
    "rotated": ("JPEG", rotated()),
    "transparent": ("PNG", transparent()),
}


@pytest.mark.parametrize("kind", FILES)
def test_everybody_sees_the_pixels_that_the_gateway_sees(kind, tmp_path):
    image_format, data = FILES[kind]
    path = tmp_path / "picture"
    path.write_bytes(data)
    buffer = bytearray(COLOURS.size)
    reply = decode(data, Job(image_format, 60, 40), memoryview(buffer))
    seen = np.frombuffer(buffer, np.uint8).reshape(reply.height, reply.width, 3)
    assert np.array_equal(_read(path)[1], seen)
    assert np.array_equal(open_picture(data), seen)
    assert np.array_equal(PictureBytes(data).load(), seen)


def test_what_is_transparent_is_white():
    clear = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    assert np.asarray(to_rgb(clear)).tolist() == [[[255, 255, 255]] * 2]


@pytest.mark.parametrize("mode", ["F", "LAB", "HSV"])
def test_numbers_that_are_no_colours_are_refused(mode):
    with pytest.raises(ValueError, match=f"mode {mode}"):
        to_rgb(Image.new(mode, (2, 2)))
