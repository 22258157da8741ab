"""A port of the gateway's own: HTTP without Ray Serve's proxy in between.

All gateways of a machine listen on the same address, and the kernel deals the connections out among
them. A request saves a hop and two passes through Ray; in exchange, nobody gives the requests of a
gateway that died to another one.
"""

import asyncio
import socket

import uvicorn
from starlette.types import ASGIApp

from gateway.rest.connection import BoundedConnection
from qzoom.errors import Unavailable

BACKLOG = 512
KEEP_ALIVE_S = 30
GRACE_S = 10


class OwnPort:
    """Serves an application on the running event loop, until it is closed.

    Args:
        app: Answers the requests.
        host: Address to listen on.
        port: Shared with the other gateways of the machine.

    Raises:
        Unavailable: If somebody else listens there.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise Unavailable(f"cannot listen on {host}:{port}: {error.strerror}") from error
        config = uvicorn.Config(
            app,
            http=BoundedConnection,
            backlog=BACKLOG,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = uvicorn.Server(config)
        self._serving = asyncio.get_running_loop().create_task(
            self._server.serve([self._socket]), name="own-port"
        )

    def close(self) -> None:
        """Take no more connections, and end those that wait for nothing."""
        self._server.should_exit = True

    async def ended(self) -> None:
        """Wait until it has ended; what runs is finished, for ten seconds at most."""
        await self._serving
