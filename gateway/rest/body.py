"""How does an HTTP body become plain data? Bounded in bytes, time, depth and number of values."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from qzoom.contracts.request import Limits
from qzoom.errors import Cancelled, InvalidRequest, TooLarge, UnsupportedMedia

MAX_VALUES = 200_000
"""JSON values in a body; a few bytes of text can cost a hundred of memory each."""


async def read_body(request: Request, limits: Limits) -> bytes:
    """Read the body of a request that says that it is JSON.

    Args:
        request: Whose body was not touched yet.
        limits: Of a body that is too long no more than `max_body_bytes` is ever held. What the
            client still sends after the refusal, the HTTP server reads and forgets.

    Raises:
        Cancelled: If the client goes away.
        TooLarge: If the body is longer, as soon as that is known.
        InvalidRequest: If it does not arrive in time.
        UnsupportedMedia: If it claims to be something else than JSON.
    """
    _check_headers(request, limits.max_body_bytes)
    try:
        async with asyncio.timeout(limits.max_body_s):
            return await _read(request.stream(), limits.max_body_bytes)
    except ClientDisconnect:
        raise Cancelled("the client went away") from None
    except TimeoutError:
        raise InvalidRequest(f"the body did not arrive within {limits.max_body_s:g} s") from None


def _check_headers(request: Request, max_bytes: int) -> None:
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMedia(
            f"content-type is {media_type[:80]!a}, must be application/json",
            param="content-type",
        )
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise UnsupportedMedia(
            f"content-encoding is {encoding[:80]!a}, must be identity",
            param="content-encoding",
        )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise TooLarge(f"the body has {length[:20]} bytes, at most {max_bytes}")


async def _read(chunks: AsyncIterator[bytes], max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        if len(body) + len(chunk) > max_bytes:
            raise TooLarge(f"the body has more than {max_bytes} bytes")
        body += chunk
    return bytes(body)


def parse_object(raw: bytes) -> dict[str, Any]:
    """Parse strict JSON: UTF-8, no NaN, no name twice, an object at the top.

    Raises:
        InvalidRequest: If a rule is broken.
    """
    if sum(raw.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise InvalidRequest(f"the body has too many JSON values, at most {MAX_VALUES}")
    try:
        body = json.loads(
            raw.decode(), object_pairs_hook=_unique_names, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8, from byte {error.start} on") from None
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON, from character {error.pos} on") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None
    except ValueError:
        raise InvalidRequest("the body has a number with too many digits") from None
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    return body


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise InvalidRequest(f"the body has the name {twice[:80]!a} twice in one object")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"the body has the number {name}, which is not JSON")
