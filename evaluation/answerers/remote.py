"""A gateway over HTTP: plain REST, so this needs nothing of the serving side.

A bounded number of requests is in flight. What the server refuses for the moment (429, 503) is
tried again after the time that it names; what fails for good becomes an outcome with an error.
"""

import base64
import dataclasses
import platform
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from itertools import islice
from typing import Any

import httpx
from PIL import Image

from evaluation.answerers.base import Asked, Outcome
from qzoom.contracts.conversation import Text, Turn
from qzoom.data.record import PictureBytes, PictureFile, PictureSource
from qzoom.errors import InvalidRequest, QZoomError, Unavailable

CONNECT_S = 5.0
TRIES = 4
LONGEST_PAUSE_S = 10.0
_RETRIED = {429, 503}


class GatewayAnswerer:
    """Answers through a running system.

    Args:
        url: Base address, without `/v1`.
        concurrency: Requests in flight.
        timeout_s: Seconds that one try may take.

    Raises:
        Unavailable: If nobody answers there.
        InvalidRequest: If the address is none.
    """

    def __init__(self, url: str, *, concurrency: int = 4, timeout_s: float = 120.0) -> None:
        self._concurrency, self._timeout_s = concurrency, timeout_s
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_S)
        limits = httpx.Limits(max_connections=concurrency)
        self.url = url.rstrip("/")
        self._client = httpx.Client(timeout=timeout, limits=limits)
        try:
            reply = self._client.get(f"{self.url}/v1/models").raise_for_status()
            self.model = str(reply.json()["data"][0]["id"])
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            self.close()
            raise InvalidRequest(f"{url!r} is no address of a server: {error}") from None
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
            self.close()
            raise Unavailable(f"no gateway answers at {url}: {error}") from None

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
        """Model and address as the gateway names them, and how it was asked."""
        return {
            "model": self.model,
            "gateway": True,
            "concurrency": self._concurrency,
            "client": platform.machine(),
        }

    def _answer(self, asked: Asked) -> Outcome:
        try:
            body = _body(self.model, asked)
        except (QZoomError, OSError) as error:
            return Outcome("", error=str(error))
        size_px = _size_px(asked.picture)
        began = time.perf_counter()
        problem = ""
        for attempt in range(TRIES):
            began = time.perf_counter()
            try:
                reply = self._client.post(f"{self.url}/v1/chat/completions", json=body)
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
                time.sleep(min(LONGEST_PAUSE_S, 0.5 * 2**attempt))
                continue
            if reply.status_code in _RETRIED:
                problem = _reason(reply)
                time.sleep(_pause_s(reply, attempt))
                continue
            wall_s = time.perf_counter() - began
            if reply.is_error:
                return Outcome("", wall_s=wall_s, size_px=size_px, error=_reason(reply))
            return _outcome(reply, wall_s, size_px)
        wall_s = time.perf_counter() - began
        return Outcome("", wall_s=wall_s, size_px=size_px, error=f"gave up: {problem}")


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


def _body(model: str, asked: Asked) -> dict[str, Any]:
    data = encoded(asked.picture)
    kind = Image.MIME.get(Image.open(BytesIO(data)).format or "", "image/png")
    url = f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
    options = {k: v for k, v in dataclasses.asdict(asked.options).items() if v is not None}
    return {
        "model": model,
        "messages": [_message(turn, url) for turn in asked.conversation],
        "max_tokens": asked.max_tokens,
        "temperature": 0,
        "qzoom": options,
    }


def _message(turn: Turn, url: str) -> dict[str, Any]:
    parts = [
        {"type": "text", "text": part.text}
        if isinstance(part, Text)
        else {"type": "image_url", "image_url": {"url": url}}
        for part in turn.parts
    ]
    if turn.role == "user":
        return {"role": turn.role, "content": parts}
    return {"role": turn.role, "content": "".join(str(part.get("text", "")) for part in parts)}


def _size_px(picture: PictureSource) -> tuple[int, int]:
    height, width = picture.load().shape[:2]
    return width, height


def _outcome(reply: httpx.Response, wall_s: float, size_px: tuple[int, int]) -> Outcome:
    try:
        completion = reply.json()
        details = completion["qzoom"]
        boxes = details["boxes"]
        return Outcome(
            text=completion["choices"][0]["message"]["content"],
            route=details["route"],
            p_refine=details["p_refine"],
            box_px=tuple(boxes[0]["box"]) if boxes else None,
            coarse_tokens=details["visual_tokens"]["coarse"],
            roi_tokens=details["visual_tokens"]["roi"],
            wall_s=wall_s,
            size_px=size_px,
            error=f"degraded: {details['degraded']}" if details.get("degraded") else "",
        )
    except (ValueError, KeyError, IndexError, TypeError) as error:
        problem = f"not an answer of this system: {type(error).__name__} {error}"
        return Outcome("", wall_s=wall_s, size_px=size_px, error=problem)


def _reason(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {reply.status_code} {reply.reason_phrase}"


def _pause_s(reply: httpx.Response, attempt: int) -> float:
    try:
        asked_s = float(reply.headers.get("retry-after", ""))
    except ValueError:
        asked_s = 0.5 * 2**attempt
    return min(LONGEST_PAUSE_S, max(0.0, asked_s))
