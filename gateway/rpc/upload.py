"""How do pictures arrive in pieces? Numbered, in order, bounded in bytes, pieces and time."""

import asyncio
from collections.abc import AsyncIterator

from qzoom.contracts.request import Limits
from qzoom.errors import InvalidRequest, TooLarge
from qzoom.pb import qzoom_pb2 as pb

MAX_CHUNKS = 10_000


async def read_upload(
    stream: AsyncIterator[pb.UploadRequest], limits: Limits
) -> tuple[list[bytes], pb.AnswerRequest]:
    """Read all pictures, then the question, then the end of the stream.

    Returns:
        pictures: Encoded files in the order of their numbers.
        question: What is asked about them.

    Raises:
        InvalidRequest: If pieces are out of order, the question is missing or not the last
            message, or the stream does not end in time.
        TooLarge: If a limit on bytes, pictures or pieces is passed, as soon as it is.
    """
    try:
        async with asyncio.timeout(limits.max_body_s):
            return await _read(stream, limits)
    except TimeoutError:
        raise InvalidRequest(f"the upload did not arrive within {limits.max_body_s:g} s") from None


async def _read(
    stream: AsyncIterator[pb.UploadRequest], limits: Limits
) -> tuple[list[bytes], pb.AnswerRequest]:
    pictures = _Pictures(limits)
    question: pb.AnswerRequest | None = None
    async for message in stream:
        if question is not None:
            raise InvalidRequest("the upload goes on after the question", param="question")
        match message.WhichOneof("part"):
            case "chunk":
                pictures.add(message.chunk)
            case "question":
                question = message.question
            case _:
                raise InvalidRequest("an upload message has neither chunk nor question")
    if question is None:
        raise InvalidRequest("the upload ended without a question", param="question")
    return [bytes(picture) for picture in pictures.files], question


class _Pictures:
    """The files so far."""

    def __init__(self, limits: Limits) -> None:
        self.files: list[bytearray] = []
        self._limits = limits
        self._num_chunks = 0
        self._num_bytes = 0

    def add(self, chunk: pb.ImageChunk) -> None:
        """Append a piece to its picture."""
        self._num_chunks += 1
        self._num_bytes += len(chunk.data)
        self._check(chunk)
        if chunk.image == len(self.files):
            self.files.append(bytearray())
        self.files[chunk.image] += chunk.data
        if len(self.files[chunk.image]) > self._limits.max_image_bytes:
            raise TooLarge(
                f"picture {chunk.image} of the upload has more than "
                f"{self._limits.max_image_bytes} bytes",
                param="chunk.data",
            )

    def _check(self, chunk: pb.ImageChunk) -> None:
        limits = self._limits
        if not chunk.data:
            raise InvalidRequest("a piece of a picture has 0 bytes, at least 1", param="chunk.data")
        if self._num_chunks > MAX_CHUNKS:
            raise TooLarge(f"the upload has more than {MAX_CHUNKS} pieces", param="chunk")
        if self._num_bytes > limits.max_body_bytes:
            raise TooLarge(
                f"the upload has more than {limits.max_body_bytes} bytes", param="chunk.data"
            )
        if chunk.image >= limits.max_images:
            raise TooLarge(
                f"the upload has more than {limits.max_images} pictures", param="chunk.image"
            )
        last = len(self.files) - 1
        if chunk.image not in (last, last + 1) or chunk.image < 0:
            raise InvalidRequest(
                f"a piece belongs to picture {chunk.image}, expected {max(last, 0)}"
                + (f" or {last + 1}" if last >= 0 else ""),
                param="chunk.image",
            )
