"""Decoding stays off the event loop, is bounded, and ends at its deadline."""

import asyncio
import hashlib
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from gateway.images import ImageDecoder, ImageLimits
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.request import AnswerRequest
from qzoom.contracts.sampling import Sampling
from qzoom.errors import DeadlineExceeded, Overloaded, TooLarge, UnsupportedMedia


def png(size, colour=0) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def request(*files: bytes) -> AnswerRequest:
    return AnswerRequest(
        request_id="r",
        model="m",
        conversation=single_question("?"),
        images=files,
        image_params=tuple(f"image {i}" for i in range(len(files))),
        sampling=Sampling(),
        options=Options(),
        stream=False,
        deadline=time.time() + 60,
        trace={},
    )


@pytest.fixture
def make_decoder():
    decoders = []

    def make(**options) -> ImageDecoder:
        decoders.append(ImageDecoder(**options))
        return decoders[-1]

    yield make
    for decoder in decoders:
        decoder.close()


async def test_pictures_keep_their_order(make_decoder):
    files = [png((i + 1, 2), (i, 0, 0)) for i in range(8)]
    decoded = await make_decoder().decode(request(*files))
    assert [image.size_px for image in decoded] == [(i + 1, 2) for i in range(8)]
    assert [image.pixels[0, 0, 0] for image in decoded] == list(range(8))


async def test_the_digest_is_over_size_and_pixels(make_decoder):
    (image,) = await make_decoder().decode(request(png((3, 2), (1, 2, 3))))
    shape = np.array([2, 3, 3], np.int64).tobytes()
    assert image.digest == hashlib.sha256(shape + bytes([1, 2, 3] * 6)).hexdigest()


async def test_all_pictures_together_are_limited(make_decoder):
    decoder = make_decoder(limits=ImageLimits(max_request_pixels=150))
    await decoder.decode(request(png((10, 15))))
    with pytest.raises(TooLarge, match="200 pixels together, at most 150"):
        await decoder.decode(request(png((10, 10)), png((10, 10))))


async def test_an_error_names_the_picture(make_decoder):
    with pytest.raises(UnsupportedMedia) as error:
        await make_decoder().decode(request(png((2, 2)), b"junk"))
    assert error.value.param == "image 1"


async def test_more_requests_than_may_wait_are_refused(make_decoder):
    decoder = make_decoder(num_threads=1, max_waiting=1)
    large = request(png((3000, 3000)))
    results = await asyncio.gather(
        *(decoder.decode(large) for _ in range(5)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, Overloaded)]
    assert len(refused) == 3
    assert refused[0].retry_after_s == 1
    await decoder.decode(request(png((2, 2))))


async def test_decoding_that_takes_too_long_frees_the_request(make_decoder):
    decoder = make_decoder(limits=ImageLimits(decode_timeout_s=0.01), num_threads=1)
    with pytest.raises(DeadlineExceeded, match=r"within 0\.01 s"):
        await decoder.decode(request(png((4000, 4000))))


async def test_an_abandoned_failure_is_not_reported(make_decoder, caplog):
    decoder = make_decoder(limits=ImageLimits(decode_timeout_s=0.01), num_threads=1)
    broken = png((4000, 4000))[:-200]
    with pytest.raises(DeadlineExceeded):
        await decoder.decode(request(broken))
    await asyncio.sleep(0.5)
    assert not caplog.records


async def test_the_event_loop_goes_on_meanwhile(make_decoder):
    decoder = make_decoder()
    work = asyncio.create_task(decoder.decode(request(png((6000, 6000)))))
    turns = 0
    while not work.done():
        await asyncio.sleep(0.001)
        turns += 1
    await work
    assert turns > 10
