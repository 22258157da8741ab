"""The standard gRPC health service, beside Serve's own, for probes and load balancers.

Serve's proxy hands its calls to the ingress class by their method names, as it does with ours.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from gateway.rpc.context import CallContext
from qzoom.errors import QZoomError

SERVICES = ("", "qzoom.v1.QZoom")
"""The names that can be asked for; the empty one means the whole server."""

WATCH_PERIOD_S = 2.0


class HealthMethods:
    """Mixin of the ingress class, which sets `ready`."""

    ready: Callable[[], Awaitable[dict[str, Any]]]

    async def Check(  # noqa: N802
        self, request: HealthCheckRequest, grpc_context: CallContext
    ) -> HealthCheckResponse:
        """Tell whether questions can be answered now."""
        if request.service not in SERVICES:
            grpc_context.set_code(grpc.StatusCode.NOT_FOUND)
            grpc_context.set_details(f"unknown service {request.service[:80]!a}")
            return HealthCheckResponse()
        return HealthCheckResponse(status=await self._status())

    async def Watch(  # noqa: N802
        self, request: HealthCheckRequest, grpc_context: CallContext
    ) -> AsyncGenerator[HealthCheckResponse, None]:
        """Tell it now and whenever it changes, until the client leaves."""
        del grpc_context
        last = None
        while True:
            status = HealthCheckResponse.SERVICE_UNKNOWN
            if request.service in SERVICES:
                status = await self._status()
            if status != last:
                yield HealthCheckResponse(status=status)
            last = status
            await asyncio.sleep(WATCH_PERIOD_S)

    async def _status(self) -> "HealthCheckResponse.ServingStatus":
        try:
            await self.ready()
        except QZoomError:
            return HealthCheckResponse.NOT_SERVING
        return HealthCheckResponse.SERVING
