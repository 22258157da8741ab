"""A gateway, asked through the project's own client: nothing of the serving side is needed.

A bounded number of requests is in flight. What the server refuses for the moment is asked again
after the time that it names; what fails for good becomes an outcome with an error.
"""

import platform
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from itertools import islice
from typing import Any

from PIL import Image, ImageOps

from evaluation.answerers.base import Asked, Outcome
from qzoom.client import Answer, Client, Question, Retries
from qzoom.client.pictures import Picture as SentPicture
from qzoom.client.pictures import read_picture
from qzoom.contracts.conversation import Text
from qzoom.data.record import PictureBytes, PictureFile, PictureSource
from qzoom.errors import QZoomError


class GatewayAnswerer:
    """Answers through a running system.

    Args:
        url: Base address, `http(s)://` or `grpc(s)://`.
        concurrency: Requests in flight.
        timeout_s: Seconds that one question may take, retries included.
        retries: When to ask again.

    Raises:
        QZoomError: If the address is none, or nobody answers there.
    """

    def __init__(
        self,
        url: str,
        *,
        concurrency: int = 4,
        timeout_s: float = 120.0,
        retries: Retries | None = None,
    ) -> None:
        self._concurrency = concurrency
        self._client = Client(url, timeout_s=timeout_s, retries=retries or Retries(most=4))
        try:
            self.model = "" if url.startswith("grpc") else self._client.models()[0]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def answer_all(self, questions: Iterable[Asked]) -> Iterator[Outcome]:
        """See `Answerer`; no more than `concurrency` questions are held at a time."""
        waiting = iter(questions)
        with ThreadPoolExecutor(self._concurrency, "evaluate") as pool:
            running: deque[Future[Outcome]] = deque(
                pool.submit(self._answer, asked) for asked in islice(waiting, self._concurrency)
            )
            try:
                while running:
                    outcome = running.popleft().result()
                    running.extend(pool.submit(self._answer, a) for a in islice(waiting, 1))
                    yield outcome
            finally:
                for future in running:
                    future.cancel()

    def about(self) -> dict[str, Any]:
        """Model as the gateway names it, and how it was asked."""
        return {
            "model": self.model,
            "gateway": True,
            "concurrency": self._concurrency,
            "client": platform.machine(),
        }

    def _answer(self, asked: Asked) -> Outcome:
        size_px, began = (0, 0), time.perf_counter()
        try:
            data = encoded(asked.picture)
            size_px = _size_px(data)
            question = _question(asked, read_picture(data))
            began = time.perf_counter()
            answer = self._client.answer(question)
        except (QZoomError, OSError) as error:
            return Outcome(
                "", wall_s=time.perf_counter() - began, size_px=size_px, error=str(error)
            )
        return _outcome(answer, time.perf_counter() - began, size_px)


def encoded(picture: PictureSource) -> bytes:
    """Return a picture's file: as it is where there is one, else a PNG.

    Raises:
        QZoomError: If it cannot be drawn.
        OSError: If its file cannot be read.
    """
    if isinstance(picture, PictureFile):
        return picture.path.read_bytes()
    if isinstance(picture, PictureBytes):
        return picture.data
    buffer = BytesIO()
    Image.fromarray(picture.load()).save(buffer, "PNG")
    return buffer.getvalue()


def _question(asked: Asked, picture: SentPicture) -> Question:
    turns = tuple(
        (
            turn.role,
            tuple(part.text if isinstance(part, Text) else picture for part in turn.parts),
        )
        for turn in asked.conversation
    )
    return Question(turns, options=asked.options, max_tokens=asked.max_tokens, temperature=0.0)


def _size_px(data: bytes) -> tuple[int, int]:
    with Image.open(BytesIO(data)) as image:
        return ImageOps.exif_transpose(image).size


def _outcome(answer: Answer, wall_s: float, size_px: tuple[int, int]) -> Outcome:
    return Outcome(
        text=answer.text,
        route=answer.route,
        p_refine=answer.p_refine,
        box_px=answer.boxes[0].box_px if answer.boxes else None,
        coarse_tokens=answer.visual_tokens.coarse,
        roi_tokens=answer.visual_tokens.roi,
        wall_s=wall_s,
        size_px=size_px,
        error=f"degraded: {answer.degraded}" if answer.degraded else "",
    )
