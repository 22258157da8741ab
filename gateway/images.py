"""When are pictures decoded? Off the event loop, few at a time, and never for long.

A thread cannot be stopped, so the deadline frees the request, not the thread; the bound on work
that waits keeps the damage small, and the size limits bound the work itself.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from gateway.pixels import DecodedImage, ImageLimits, decode, read_size
from qzoom.contracts.request import AnswerRequest
from qzoom.errors import DeadlineExceeded, Overloaded, TooLarge

__all__ = ["DecodedImage", "ImageDecoder", "ImageLimits"]


class ImageDecoder:
    """Decodes the pictures of requests. Owns its threads; `close` ends them.

    Args:
        limits: What a picture may be.
        num_threads: Pictures decoded at the same time.
        max_waiting: Requests that may wait for a thread.
    """

    def __init__(
        self, limits: ImageLimits | None = None, num_threads: int = 2, max_waiting: int = 1024
    ) -> None:
        self._limits = limits or ImageLimits()
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="image-decode")
        self._max_admitted = num_threads + max_waiting
        self._num_admitted = 0

    async def decode(self, request: AnswerRequest) -> tuple[DecodedImage, ...]:
        """Decode all pictures of a request, in their order.

        Raises:
            InvalidRequest: If a picture is empty or too long for its width.
            TooLarge: If one picture, or all together, have too many pixels.
            UnsupportedMedia: If a picture is of another format, or broken.
            Overloaded: If too many requests wait for a thread.
            DeadlineExceeded: If decoding takes too long.
        """
        if self._num_admitted >= self._max_admitted:
            raise Overloaded(
                f"{self._num_admitted} requests wait for their pictures to be decoded, "
                f"at most {self._max_admitted}",
                retry_after_s=1,
            )
        # Counted until the thread is done, also if nobody waits any more.
        self._num_admitted += 1
        future = asyncio.get_running_loop().run_in_executor(
            self._threads, self._decode_all, request.images, request.image_params
        )
        future.add_done_callback(self._release)
        try:
            async with asyncio.timeout(self._limits.decode_timeout_s):
                return await asyncio.shield(future)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the pictures were not decoded within {self._limits.decode_timeout_s:g} s"
            ) from None

    def sizes(self, request: AnswerRequest) -> tuple[tuple[int, int], ...]:
        """Read and check the headers of all pictures; gives (width, height) in pixels.

        Raises:
            QZoomError: As `decode`, as far as the header tells.
        """
        files = zip(request.images, request.image_params, strict=True)
        return tuple(read_size(data, self._limits, param) for data, param in files)

    def close(self) -> None:
        """Refuse new work and end the threads when they are done."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _release(self, future: "asyncio.Future[tuple[DecodedImage, ...]]") -> None:
        self._num_admitted -= 1
        if not future.cancelled():
            future.exception()  # Seen here, so that an abandoned failure is not reported as lost.

    def _decode_all(
        self, files: Sequence[bytes], params: Sequence[str]
    ) -> tuple[DecodedImage, ...]:
        sizes = [
            read_size(data, self._limits, param) for data, param in zip(files, params, strict=True)
        ]
        num_pixels = sum(width * height for width, height in sizes)
        if num_pixels > self._limits.max_request_pixels:
            raise TooLarge(
                f"the pictures have {num_pixels} pixels together, "
                f"at most {self._limits.max_request_pixels}",
                param="messages",
            )
        return tuple(decode(data, param) for data, param in zip(files, params, strict=True))
