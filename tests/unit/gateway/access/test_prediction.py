"""What pictures cost is read from their headers, or assumed while they are not here."""

from io import BytesIO

import pytest
from PIL import Image

from gateway.access.prediction import visual_cost
from gateway.images.limits import ImageLimits, read_headers
from qzoom.contracts.budget import ImageRules
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.request import AnswerRequest, RemoteImage
from qzoom.contracts.sampling import Sampling
from qzoom.contracts.status import ModelFacts
from qzoom.errors import TooLarge

REMOTE = RemoteImage("https://pictures.example/a.png")


def png(width: int, height: int) -> bytes:
    buffer = BytesIO()
    Image.new("L", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def request_of(*images, budget=None) -> AnswerRequest:
    return AnswerRequest(
        request_id="r",
        model="m",
        conversation=single_question("?"),
        images=images,
        image_params=tuple(f"image {i}" for i in range(len(images))),
        sampling=Sampling(),
        options=Options(max_visual_tokens=budget),
        stream=False,
        deadline=0,
        trace={},
    )


async def facts() -> ModelFacts:
    return ModelFacts(
        "qwen2_5_vl",
        "r",
        True,
        True,
        tau_gate=0.5,
        tau_roi=0.5,
        cell_px=10,
        rules=ImageRules(10, None, fetch_resize=False, min_tokens=16, max_tokens=64),
        max_roi_tokens=48,
        kv_bytes_per_token=1,
        visual_bytes_per_token=1,
        state_bytes_per_token=1,
    )


def sizes(request: AnswerRequest) -> list[tuple[int, int]]:
    headers = read_headers(request.files, ImageLimits(max_pixels=100_000), request.image_params)
    return [header.size_px for header in headers]


async def test_a_remote_picture_counts_with_the_whole_budget():
    cost = visual_cost(facts, sizes)
    roi = 48
    assert await cost(request_of(png(100, 50))) == 50 + roi
    assert await cost(request_of(png(100, 50), png(40, 40))) == 50 + 16 + roi
    assert await cost(request_of(REMOTE)) == 64 + roi
    assert await cost(request_of(REMOTE, png(40, 40))) == 64 + 16 + roi
    assert await cost(request_of(REMOTE, REMOTE, budget=20)) == 40 + roi
    with pytest.raises(TooLarge, match="160000 pixels, at most 100000") as error:
        await cost(request_of(REMOTE, png(400, 400)))
    assert error.value.param == "image 1"
