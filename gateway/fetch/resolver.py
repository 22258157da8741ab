"""How does a name become addresses? Asked once a hop, off the event loop, by few threads."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from gateway.fetch.addresses import Address

Resolve = Callable[[str], Awaitable[list[Address]]]
"""Gives all addresses of a full host name, none if it has none."""

MAX_THREADS = 64
"""Twice the fetches at a time: a thread waits on for a silent name when its fetch has given up."""


class SystemResolver:
    """The machine's own resolver. Owns threads of its own, so that slow names block nobody else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="resolve")

    async def __call__(self, host: str) -> list[Address]:
        """Resolve a name; whoever calls limits the time."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, _resolve, host)

    def close(self) -> None:
        """Begin nothing new."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _resolve(host: str) -> list[Address]:
    try:
        # The dot keeps the machine's search domains, such as its cluster's, out of it.
        found = socket.getaddrinfo(f"{host}.", None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [ip_address(str(entry[4][0])) for entry in found]
