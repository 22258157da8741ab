"""A question means the same over both protocols, whatever the picture comes as."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from gateway.requests import read_body
from gateway.rpc.questions import question_fields
from qzoom.client.overlays import open_picture
from qzoom.client.pictures import read_picture
from qzoom.client.question import build_question
from qzoom.errors import InvalidRequest

CHOSEN = {
    "route": "zoom",
    "tau_gate": 0.25,
    "max_roi_tokens": 64,
    "explain": True,
    "max_tokens": 7,
    "temperature": 0.5,
    "seed": -3,
    "stop": ["\n"],
}


@pytest.fixture
def image():
    return Image.fromarray(np.arange(12 * 8 * 3, dtype=np.uint8).reshape(8, 12, 3))


def encoded(image, kind="PNG", **options):
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_both_protocols_send_what_the_gateway_reads_as_one_request(image):
    built = build_question(
        [encoded(image), image],
        "and now?",
        system="be brief",
        history=[("what is it?", "a mug")],
        **CHOSEN,
    )
    over_rest = read_body(built.to_json("m", stream=False))
    over_grpc = read_body(question_fields(built.to_proto("m")))
    assert over_rest.model_dump(exclude={"stream"}) == over_grpc.model_dump(exclude={"stream"})
    roles = [message.role for message in over_rest.messages]
    assert roles == ["system", "user", "assistant", "user"]
    assert [part.type for part in over_rest.messages[1].content] == ["image_url"] * 2 + ["text"]


def test_a_picture_is_a_path_bytes_an_image_or_a_url(image, tmp_path):
    data = encoded(image)
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    assert read_picture(path) == read_picture(str(path)) == read_picture(data)
    assert np.array_equal(Image.open(BytesIO(read_picture(image).data)), image)
    assert read_picture(url).url == url
    assert read_picture("https://example.com/a.png").url == "https://example.com/a.png"
    for source in (path, str(path), data, image, url):
        assert np.array_equal(open_picture(source), image)


def test_an_overlay_sees_the_picture_upright_as_the_server_does(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = open_picture(encoded(image, "TIFF", exif=exif))
    assert turned.size == (8, 12)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_media_type_is_that_of_the_bytes(image, kind):
    assert read_picture(encoded(image, kind)).media_type == f"image/{kind.lower()}"


@pytest.mark.parametrize(
    ("source", "chosen", "said"),
    [
        ("absent.png", {}, "absent.png cannot be read"),
        (b"x", {"rout": "zoom"}, "rout is no option"),
        (b"x", {"route": "sideways"}, "must be auto, direct or zoom"),
    ],
)
def test_mistakes_are_named_before_anything_is_sent(source, chosen, said):
    with pytest.raises(InvalidRequest, match=said):
        build_question(source, "?", **chosen)


def test_what_is_no_picture_cannot_be_drawn_over():
    for source in (b"none", "https://example.com/a.png"):
        with pytest.raises(InvalidRequest):
            open_picture(source)
