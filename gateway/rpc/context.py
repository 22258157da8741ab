"""What does a method need of its gRPC call? The part that Ray Serve and grpc.aio have in common."""

import math
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import unquote

import grpc

from gateway.edge import arrival
from gateway.requests import Arrival
from qzoom.errors import Forbidden, QZoomError
from qzoom.pb import qzoom_pb2 as pb

REQUEST_ID = "request_id"
"""Trailing metadata; Serve's proxy writes it for every call."""


class CallContext(Protocol):
    """`ray.serve.grpc_util.RayServegRPCContext`, and `grpc.aio.ServicerContext` in tests."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """Metadata that the client sent."""
        ...

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """Metadata that goes back at the end."""
        ...

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str]], /) -> None:
        """Replace the metadata that goes back at the end."""
        ...

    def peer(self) -> str:
        """Name the client's address, as in `ipv4:127.0.0.1:50000`."""
        ...

    def set_code(self, code: grpc.StatusCode, /) -> None:
        """Set the status of the call."""
        ...

    def set_details(self, details: str, /) -> None:
        """Set the text of the status."""
        ...


def call_headers(context: CallContext) -> dict[str, str]:
    """Give the metadata that the client sent, as far as it is text."""
    return {
        key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
    }


def call_arrival(context: CallContext) -> Arrival:
    """Note when a call came, name it, and promise the name in the trailing metadata.

    Raises:
        InvalidRequest: If the client's name of the request is not fit for logs.
    """
    headers = call_headers(context)
    named = request_id(context) or headers.get(REQUEST_ID)
    if named:
        headers["x-request-id"] = named
    came = arrival(headers)
    if not request_id(context):
        _send_back(context, came.request_id, [])
    return came


def require_local(context: CallContext) -> None:
    """Refuse a client of another machine: Serve's gRPC proxy listens on every interface.

    Raises:
        Forbidden: If the client's address is not a loopback address.
    """
    kind, _, address = unquote(context.peer()).partition(":")
    host = address.rpartition(":")[0].strip("[]")
    if kind == "unix":
        return
    try:
        address_of_peer = ip_address(host)
    except ValueError:
        raise Forbidden("clients must be on this machine") from None
    mapped = getattr(address_of_peer, "ipv4_mapped", None)
    if not (mapped or address_of_peer).is_loopback:
        raise Forbidden(f"clients must be on this machine, not at {address_of_peer}")


def request_id(context: CallContext) -> str:
    """Give the name of the request as the trailing metadata has it; empty if it has none yet."""
    return str(dict(context.trailing_metadata() or ()).get(REQUEST_ID, ""))


def succeed(context: CallContext, headers: Mapping[str, str]) -> None:
    """Put what goes back beside the answer into the trailing metadata."""
    if headers:
        _send_back(context, request_id(context), list(headers.items()))


def fail(context: CallContext, error: QZoomError, headers: Mapping[str, str]) -> None:
    """Put an error into the call's status, and what goes back beside it.

    The method must then return and not raise: Serve drops the trailing metadata of a method that
    raises.
    """
    context.set_code(grpc.StatusCode[error.grpc_code])
    context.set_details(error.message)
    metadata = [("qzoom-code", error.code), *headers.items()]
    if error.param is not None:
        metadata.append(("qzoom-param", error.param))
    if error.retry_after_s is not None:
        metadata.append(("retry-after", str(max(1, math.ceil(error.retry_after_s)))))
    _send_back(context, request_id(context), metadata)


def _send_back(context: CallContext, named: str, metadata: list[tuple[str, str]]) -> None:
    context.set_trailing_metadata(metadata)
    # Serve's context keeps its entry with the name, grpc's own does not.
    if named and not request_id(context):
        context.set_trailing_metadata([(REQUEST_ID, named), *metadata])


def error_message(error: QZoomError, named: str) -> pb.Error:
    """Build the event that ends a stream, for clients that read no status."""
    return pb.Error(
        code=error.code, message=error.message, param=error.param or "", request_id=named
    )
