"""Real decoding processes, and requests for them."""

import asyncio
import time

import pytest

from gateway.images.decoder import ImageDecoder
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.request import AnswerRequest
from qzoom.contracts.sampling import Sampling


@pytest.fixture(scope="session")
def request_of():
    """Make a request for files: `request_of(*files, deadline_s=60)`."""

    def make(*files: bytes, deadline_s: float = 60) -> AnswerRequest:
        return AnswerRequest(
            request_id="r",
            model="m",
            conversation=single_question("?"),
            images=files,
            image_params=tuple(f"image {i}" for i in range(len(files))),
            sampling=Sampling(),
            options=Options(),
            stream=False,
            deadline=time.time() + deadline_s,
            trace={},
        )

    return make


@pytest.fixture
def make_decoder():
    """Make decoders that are closed at the end of the test."""
    decoders = []

    def make(limits=None, **options) -> ImageDecoder:
        decoders.append(ImageDecoder(limits, **options))
        return decoders[-1]

    yield make
    for decoder in decoders:
        decoder.close()


@pytest.fixture(scope="session")
def shared_decoder():
    """The decoder of all tests that do no harm to it."""
    decoder = ImageDecoder()
    yield decoder
    decoder.close()


@pytest.fixture(scope="session")
def decode(shared_decoder, request_of):
    """Decode one file: `decode(data)`."""

    def run(data: bytes):
        (image,) = asyncio.run(shared_decoder.decode(request_of(data)))
        return image

    return run
