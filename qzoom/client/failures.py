"""What went wrong? The server's refusals as `QZoomError`s, and what happens on the way to it."""

from collections.abc import Iterable, Mapping
from typing import Any

import grpc
import httpx

from qzoom import errors
from qzoom.errors import DeadlineExceeded, QZoomError, Unavailable


class NotConnected(Unavailable):
    """There is no connection to the server, so the question was never asked."""


class BrokenAnswer(Unavailable):
    """The connection broke, or what came back is no answer. The question may have been asked."""


# What is derived further is the server's own affair and has the same code.
_ALL: list[type[QZoomError]] = [QZoomError, *QZoomError.__subclasses__()]
_KINDS = {kind.code: kind for kind in _ALL}
_BY_STATUS = {kind.http_status: kind for kind in reversed(_KINDS.values())}
_BY_GRPC = {kind.grpc_code: kind for kind in reversed(_KINDS.values())}


def refusal(reply: httpx.Response) -> QZoomError:
    """Read an error response; also one that something in between wrote in another shape."""
    try:
        told = reply.json()["error"]
    except (ValueError, KeyError, TypeError):
        told = {}
    told = told if isinstance(told, Mapping) else {}
    kind = _KINDS.get(str(told.get("code"))) or _BY_STATUS.get(reply.status_code)
    if kind is None:
        kind = errors.InvalidRequest if reply.is_client_error else Unavailable
    text = told.get("message") or f"the server answered {reply.status_code} {reply.reason_phrase}"
    param = told.get("param")
    return kind(
        str(text),
        param=None if param is None else str(param),
        retry_after_s=seconds(reply.headers.get("retry-after")),
    )


def event_refusal(told: Mapping[str, object]) -> QZoomError:
    """Read the error that ends a stream."""
    kind = _KINDS.get(str(told.get("code")), QZoomError)
    param = told.get("param")
    return kind(str(told.get("message")), param=None if param is None else str(param))


def rest_failure(error: httpx.HTTPError | httpx.InvalidURL, url: str) -> QZoomError:
    """Say what happened to the connection."""
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return errors.InvalidRequest(f"{url!r} is no address of a server: {error}", param="url")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return NotConnected(f"no server at {url}")
    if isinstance(error, httpx.PoolTimeout):
        return NotConnected(f"all connections to {url} are in use")
    if isinstance(error, httpx.TimeoutException):
        return DeadlineExceeded(f"{url} did not answer in time")
    return BrokenAnswer(f"the connection to {url} broke: {error}")


def rpc_failure(
    error: grpc.RpcError, address: str, trailing: Iterable[tuple[str, Any]] | None
) -> QZoomError:
    """Read the status of a call that failed."""
    metadata = {key: value for key, value in trailing or () if isinstance(value, str)}
    status = error.code()
    code = metadata.get("qzoom-code")
    if code is None and status is grpc.StatusCode.UNAVAILABLE:
        return NotConnected(f"no server at {address}")
    if code is None and status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(f"{address} did not answer in time")
    kind = _KINDS.get(code or "") or _BY_GRPC.get(status.name, QZoomError)
    return kind(
        error.details() or status.name,
        param=metadata.get("qzoom-param"),
        retry_after_s=seconds(metadata.get("retry-after")),
    )


def seconds(text: str | None) -> float | None:
    """Read a Retry-After that is a number; a date, which we never send, counts as none."""
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None
