"""What if a message's bytes are no message? The client is told so, as of any other mistake.

grpc answers such bytes with an internal error of its own, in which the name of an exception stands.
Here they become a message with a field that no contract has, which the methods refuse by name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, Self

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage

from qzoom.pb import qzoom_pb2_grpc

UNREADABLE_FIELD = (1 << 29) - 1
"""The highest number that a field may have; no contract uses it."""

_UNREADABLE = bytes.fromhex("f8ffffff0f00")
"""That field with the value 0, as it is written."""


class Method(Protocol):
    """A method as grpc keeps it, a named tuple."""

    request_deserializer: Callable[[bytes], ProtoMessage]

    def _replace(self, *, request_deserializer: Callable[[bytes], ProtoMessage]) -> Self: ...


class Handler(Protocol):
    """Some methods as grpc keeps them."""

    _method_handlers: dict[str, Method]


class Server(Protocol):
    """What Serve's server and that of grpc.aio have in common."""

    def add_generic_rpc_handlers(self, handlers: Sequence[Handler], /) -> None:
        """Add methods, in the way of older stubs."""
        ...

    def add_registered_method_handlers(
        self, service: str, methods: Mapping[str, Method], /
    ) -> None:
        """Add methods, in the way of newer stubs."""
        ...


def add_servicer(servicer: object, server: Server) -> None:
    """Add qzoom.v1.QZoom to a server: named in Serve's list of servicer functions.

    Args:
        servicer: Has the methods.
        server: Gets them.
    """
    qzoom_pb2_grpc.add_QZoomServicer_to_server(servicer, _Tolerant(server))


class _Tolerant:
    """A server whose methods are given every message, readable or not."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[Handler]) -> None:
        for handler in handlers:
            handler._method_handlers = {
                name: _tolerant(method) for name, method in handler._method_handlers.items()
            }
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, methods: Mapping[str, Method]) -> None:
        tolerant = {name: _tolerant(method) for name, method in methods.items()}
        self._server.add_registered_method_handlers(service, tolerant)


def _tolerant(method: Method) -> Method:
    read = method.request_deserializer

    def read_or_mark(data: bytes) -> ProtoMessage:
        try:
            return read(data)
        except DecodeError:
            return read(_UNREADABLE)

    return method._replace(request_deserializer=read_or_mark)
