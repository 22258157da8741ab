"""When are pictures decoded? Few at a time, in processes, in turn, and never for long.

Every process belongs to one thread at a time, which waits for it. A picture that crashes its
process, fills its memory or uses up its time costs that request; the process is replaced at once
and its neighbours do not notice.
"""

import asyncio
import contextlib
import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from gateway.images.decoded import DecodedImage
from gateway.images.limits import Header, ImageLimits, read_headers
from gateway.images.process import DecodeProcess, ProcessLost
from qzoom.contracts.request import AnswerRequest
from qzoom.errors import DeadlineExceeded, Overloaded, Unavailable

CLOSE_TIMEOUT_S = 1.0
TRIES = 2
"""Of a picture whose process was killed by somebody else; decoding has no side effects."""


class ImageDecoder:
    """Decodes the pictures of requests. Owns its processes; `close` ends them.

    Args:
        limits: What a picture may be, and what its decoding may cost.
        num_processes: Pictures decoded at the same time.
        max_waiting: Pictures that may wait for a process.
    """

    def __init__(
        self, limits: ImageLimits | None = None, num_processes: int = 2, max_waiting: int = 512
    ) -> None:
        self._limits = limits or ImageLimits()
        self._processes = [DecodeProcess(self._limits) for _ in range(num_processes)]
        self._idle: queue.SimpleQueue[DecodeProcess] = queue.SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(num_processes, thread_name_prefix="image-decode")
        self._places = _Places(num_processes + max_waiting)

    @property
    def pids(self) -> list[int]:
        """Ids of the processes."""
        return [process.pid for process in self._processes if process.pid is not None]

    async def decode(self, request: AnswerRequest) -> tuple[DecodedImage, ...]:
        """Decode all pictures of a request, in their order.

        Raises:
            InvalidRequest: If a picture is empty or too long for its width.
            TooLarge: If one picture, or all together, have too many pixels, or need too much time
                or memory.
            UnsupportedMedia: If a picture is of another format, or broken.
            Overloaded: If too many pictures wait for a process.
            DeadlineExceeded: If the request's deadline passes, or the machine is too slow.
            Unavailable: If the machine has no room for a process, or keeps killing it.
        """
        files, params = request.files, request.image_params
        headers = read_headers(files, self._limits, params)
        jobs = self._submit(
            [
                (data, header, param)
                for data, header, param in zip(files, headers, params, strict=True)
            ]
        )
        try:
            async with asyncio.timeout(max(0.0, request.deadline - time.time())):
                decoded = await asyncio.gather(*(asyncio.wrap_future(job) for job in jobs))
                return tuple(decoded)
        except TimeoutError:
            raise DeadlineExceeded(
                "the deadline passed while the pictures waited to be decoded"
            ) from None
        finally:
            for job in jobs:
                job.cancel()  # What has begun ends by itself, within its time.

    def sizes(self, request: AnswerRequest) -> tuple[tuple[int, int], ...]:
        """Read and check the headers of all pictures; gives (width, height) in pixels.

        Raises:
            QZoomError: As `decode`, as far as the headers tell.
        """
        headers = read_headers(request.files, self._limits, request.image_params)
        return tuple(header.size_px for header in headers)

    def close(self) -> None:
        """Refuse new work, and end the processes whatever they do."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.retire()
        for _ in self._processes:
            with contextlib.suppress(queue.Empty):  # Its thread gives it back when it notices.
                self._idle.get(timeout=CLOSE_TIMEOUT_S).close()

    def _submit(self, jobs: list[tuple[bytes, Header, str]]) -> list[Future[DecodedImage]]:
        self._places.take(len(jobs))
        futures: list[Future[DecodedImage]] = []
        try:
            for job in jobs:
                futures.append(self._threads.submit(self._decode, *job))
                futures[-1].add_done_callback(lambda _: self._places.give_back(1))
        except RuntimeError:
            self._places.give_back(len(jobs) - len(futures))
            raise Unavailable("the gateway is stopping") from None
        return futures

    def _decode(self, data: bytes, header: Header, param: str) -> DecodedImage:
        for _ in range(TRIES):
            process = self._idle.get()
            try:
                return process.decode(data, header, param)
            except ProcessLost:
                continue
            except OSError:
                raise Unavailable(
                    "the machine has no room to decode the picture", param=param
                ) from None
            finally:
                self._idle.put(process)
        raise Unavailable(
            f"the process that decoded the picture was killed {TRIES} times", param=param
        )


class _Places:
    """Counts pictures that are decoded or wait; a picture counts until it is done or withdrawn."""

    def __init__(self, num_places: int) -> None:
        self._num_places = num_places
        self._num_taken = 0
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        with self._lock:
            if self._num_taken + count > self._num_places:
                raise Overloaded(
                    f"{self._num_taken} pictures wait to be decoded, at most {self._num_places}",
                    retry_after_s=1,
                )
            self._num_taken += count

    def give_back(self, count: int) -> None:
        with self._lock:
            self._num_taken -= count
