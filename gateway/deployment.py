"""The gateway as a Ray Serve deployment: the one class behind HTTP and gRPC."""

import asyncio
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from gateway.app import Probes, create_app
from gateway.edge import Edge
from gateway.flow import Flow
from gateway.images import ImageDecoder
from gateway.ledger import Ledger
from gateway.rpc.health import HealthMethods
from gateway.rpc.methods import QZoomMethods
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.stages import Handles
from qzoom.telemetry.gateway import GatewayTelemetry


@serve.deployment(name="gateway")
@serve.ingress()
class GatewayDeployment(QZoomMethods, HealthMethods):
    """One replica of the gateway.

    Args:
        settings: Of the gateway.
        encoder: The encoder service.
        gate: The gate service.
        rpn: The RPN service.
        llm: The llm service.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        encoder: DeploymentHandle[Any],
        gate: DeploymentHandle[Any],
        rpn: DeploymentHandle[Any],
        llm: DeploymentHandle[Any],
    ) -> None:
        handles = Handles(encoder, gate, rpn, llm)
        self._telemetry = GatewayTelemetry(settings.max_traces)
        self._images = ImageDecoder(num_threads=settings.decode_threads)
        self._services = Services(handles)
        self.ready = self._services.ready
        self._ledger = Ledger(
            serve.get_replica_context().app_name, self._telemetry, settings.max_traces
        )
        flow = Flow(handles, self._services.facts, self._images, self._telemetry)
        self.edge = Edge(
            flow,
            (settings.model_name,),
            self._telemetry.log,
            local_clients_only=settings.local_clients_only,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the HTTP side; called by Serve after the constructor."""
        probes = Probes(
            ready=self._services.ready,
            metrics=self._ledger.render,
            trace=self._ledger.trace,
            traces=self._ledger.traces,
            stats=self._stats,
        )
        return create_app(self.edge, probes, behind_serve=True)

    async def _stats(self, window_s: float) -> dict[str, Any]:
        counted, replicas = await asyncio.gather(
            self._ledger.stats(window_s), self._services.replicas()
        )
        return {**counted, "replicas": replicas}

    def __del__(self) -> None:
        """Stop what this replica started."""
        self._ledger.close()
        self._images.close()
        self._telemetry.close()
