"""Where did the model look? Overlays of the client, the only part of it that needs Pillow."""

import base64
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from qzoom.client.answers import Answer
from qzoom.client.pictures import PictureSource, read_picture
from qzoom.errors import InvalidRequest
from qzoom.overlay import Look, draw_overlay
from qzoom.rgb import to_rgb, upright


def overlay(answer: Answer, picture: PictureSource, question: str) -> Image.Image:
    """Draw an answer over its picture; see `Answer.overlay`."""
    box = answer.boxes[0].box_px if answer.boxes else None
    look = Look(question, answer.text, answer.route, answer.p_refine, answer.heatmap, box)
    return draw_overlay(open_picture(picture), look)


def open_picture(source: PictureSource) -> Image.Image:
    """Open a picture as the server sees it, upright; for overlays.

    Raises:
        InvalidRequest: If it is a remote URL, cannot be read, or is no picture.
    """
    if isinstance(source, Image.Image):
        return to_rgb(upright(source))
    picture = read_picture(source)
    data = picture.data
    if picture.url:
        if not picture.url.lower().startswith("data:"):
            raise InvalidRequest("an overlay needs the picture itself, not its address")
        data = base64.b64decode(picture.url.partition(",")[2])
    try:
        with Image.open(BytesIO(data)) as opened:
            return to_rgb(upright(opened))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        raise InvalidRequest("this is no picture that can be read") from None
