"""When are the pictures of a request fetched? At once, within one time and one number of bytes."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from gateway.fetch.download import Budget, Downloader, MakeTransport, system_transport
from gateway.fetch.policy import FetchPolicy
from gateway.fetch.resolver import Resolve, SystemResolver
from qzoom.contracts.request import AnswerRequest, Limits, RemoteImage
from qzoom.errors import DeadlineExceeded, InvalidRequest, Overloaded


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What fetching may cost, beside the limits of a request.

    Attributes:
        timeout_s: Longest time for all pictures of a request, names and redirects included.
        max_running: Pictures that one gateway fetches at the same time.
    """

    timeout_s: float = 10.0
    max_running: int = 32


class ImageFetcher:
    """Turns the remote pictures of a request into files. Owns its threads; `close` ends them.

    Args:
        policy: What may be fetched; nothing if not given.
        limits: What fetching may cost.
        request_limits: For the bytes of one picture, and of all pictures of a request together.
        resolve: Turns names into addresses; the machine's own resolver if not given.
        make_transport: Connects to an address.
    """

    def __init__(
        self,
        policy: FetchPolicy | None = None,
        limits: FetchLimits | None = None,
        request_limits: Limits | None = None,
        *,
        resolve: Resolve | None = None,
        make_transport: MakeTransport = system_transport,
    ) -> None:
        self._policy = policy or FetchPolicy()
        self._limits = limits or FetchLimits()
        self._request_limits = request_limits or Limits()
        self._resolver = SystemResolver()
        # Certificates are read only where they are needed: it takes a while.
        self._downloader = (
            Downloader(self._policy, resolve or self._resolver, make_transport)
            if self._policy.is_on
            else None
        )
        self._num_running = 0

    async def fetch(self, request: AnswerRequest) -> AnswerRequest:
        """Give the request with the files in the place of its remote pictures.

        Raises:
            InvalidRequest: If remote pictures are off, a URL is malformed or points inside, or
                gives no file, or not in time.
            Forbidden: If the operator does not allow a URL.
            TooLarge: If a file, or all together, have too many bytes.
            UnsupportedMedia: If a server says that a file is no picture.
            Overloaded: If too many pictures are being fetched.
            DeadlineExceeded: If the request's deadline passes.
        """
        remote = [i for i, image in enumerate(request.images) if isinstance(image, RemoteImage)]
        if not remote:
            return request
        if self._downloader is None:
            param = f"{request.image_params[remote[0]]}.url"
            raise InvalidRequest(f"{param}: remote images are not enabled", param=param)
        with self._places(len(remote)):
            files = await self._fetch_all(self._downloader, request, remote)
        images = list(request.images)
        for i, data in zip(remote, files, strict=True):
            images[i] = data
        return replace(request, images=tuple(images))

    def close(self) -> None:
        """End the resolver's threads when they are done."""
        self._resolver.close()

    @contextmanager
    def _places(self, count: int) -> Iterator[None]:
        if self._num_running + count > self._limits.max_running:
            raise Overloaded(
                f"{self._num_running} pictures are being fetched, at most "
                f"{self._limits.max_running}",
                retry_after_s=1,
            )
        self._num_running += count
        try:
            yield
        finally:
            self._num_running -= count

    async def _fetch_all(
        self, downloader: Downloader, request: AnswerRequest, remote: Sequence[int]
    ) -> list[bytes]:
        """Fetch together; the first failure ends the others."""
        limits = self._request_limits
        sent = sum(len(image) for image in request.images if isinstance(image, bytes))
        budget = Budget(limits.max_image_bytes, limits.max_body_bytes - sent)
        remaining_s = request.deadline - time.time()
        try:
            async with (
                asyncio.timeout(max(0.0, min(self._limits.timeout_s, remaining_s))),
                asyncio.TaskGroup() as group,
            ):
                tasks = [
                    group.create_task(
                        downloader.get(_url(request.images[i]), request.image_params[i], budget)
                    )
                    for i in remote
                ]
        except TimeoutError:
            if remaining_s < self._limits.timeout_s:
                raise DeadlineExceeded("the deadline passed while pictures were fetched") from None
            raise InvalidRequest(
                f"the remote pictures did not arrive within {self._limits.timeout_s:g} s",
                param="messages",
            ) from None
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]


def _url(image: bytes | RemoteImage) -> str:
    assert isinstance(image, RemoteImage)
    return image.url
