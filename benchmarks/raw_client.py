"""How can load be made without taking the machine from who is measured? Ready-made bytes.

The generator shares the machine with the server, so a request here costs a third of a millisecond:
it was written once, is sent on a connection of its own, and of the answer only the status is read.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request.

    Attributes:
        status: Of HTTP; 0 if the connection broke or nothing came in time.
        seconds: From the first byte sent to the last one received.
        names_retry: Whether the answer says when to try again.
    """

    status: int
    seconds: float
    names_retry: bool = False


def prepare(url: str, bodies: Sequence[dict[str, Any]]) -> list[bytes]:
    """Write whole HTTP requests, each to be sent on a connection of its own."""
    where = urlsplit(url)
    requests = []
    for body in bodies:
        payload = json.dumps(body).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {where.netloc}\r\n"
            "content-type: application/json\r\nconnection: close\r\n"
            f"content-length: {len(payload)}\r\n\r\n"
        )
        requests.append(head.encode() + payload)
    return requests


async def send(url: str, request: bytes, timeout_s: float) -> Outcome:
    """Send one request and wait for the end of its answer; never raises."""
    where = urlsplit(url)
    began = time.perf_counter()
    head = b""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
            try:
                writer.write(request)
                while data := await reader.read(READ_BYTES):
                    head = head or data
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return Outcome(0, time.perf_counter() - began)
    line = head.split(b"\r\n", 1)[0].split(b" ")
    status = int(line[1]) if len(line) > 1 and line[1].isdigit() else 0
    names_retry = b"\r\nretry-after:" in head.lower()
    return Outcome(status, time.perf_counter() - began, names_retry)
