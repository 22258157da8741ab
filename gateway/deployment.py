"""The gateway as a Ray Serve deployment: the one class behind HTTP and gRPC."""

import asyncio
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from gateway.access.access import Access
from gateway.access.prediction import visual_cost, with_threshold
from gateway.admission.admission import Admission
from gateway.admission.bounds import KIB, MIB
from gateway.admission.shared import SharedDesk
from gateway.app import Probes, create_app
from gateway.describe import described
from gateway.edge import Edge
from gateway.fetch.fetcher import ImageFetcher
from gateway.flow import Conduct, Flow
from gateway.images.decoder import ImageDecoder
from gateway.ledger import Ledger
from gateway.live import with_live
from gateway.memory import PictureMemory
from gateway.rest.port import OwnPort
from gateway.rest.proxy import guarded
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
        handles = Handles(encoder, gate, rpn, llm, settings.by_value_kib * KIB)
        self._settings = settings
        self._port: OwnPort | None = None
        self._telemetry = GatewayTelemetry(settings.max_traces)
        limits = settings.request_limits()
        self._fetcher = ImageFetcher(settings.fetch_policy(), settings.fetch_limits(), limits)
        self._images = ImageDecoder(settings.image_limits(), settings.decode_processes)
        self._services = Services(handles)
        self._access = Access(settings.access_settings(), self._telemetry)
        replica = serve.get_replica_context()
        self._ledger = Ledger(replica.app_name, self._telemetry, settings.max_traces)
        name = replica.replica_id.unique_id
        bounds = settings.admission_bounds()
        self._desk = SharedDesk(replica.app_name, name, bounds)
        self._admission = Admission(self._desk, self._telemetry, name)
        self._facts = with_threshold(self._services.facts, lambda: self._access.tau_gate)
        self._brownout = bounds.brownout
        flow = Flow(
            handles,
            self._facts,
            self._fetcher,
            self._images,
            self._admission,
            self._telemetry,
            Conduct(settings.stage_timeout_s, settings.speculate),
            PictureMemory(settings.reuse_mib * MIB),
        )
        self.edge = Edge(
            self._access.around(flow, visual_cost(self._facts, self._images.sizes)),
            (settings.model_name,),
            self._telemetry.log,
            limits,
            identify=self._access.identify,
            refused_early=self._admission.refused_early,
            local_clients_only=settings.local_clients_only,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the HTTP side; called by Serve after the constructor.

        Raises:
            Unavailable: If another program listens on this gateway's own port.
        """
        probes = Probes(
            model=self._model,
            ready=self.ready,
            metrics=self._ledger.render,
            trace=self._ledger.trace,
            traces=self._ledger.traces,
            stats=self._stats,
        )
        if self._settings.own_port:
            direct = create_app(self.edge, probes, behind_serve=False)
            self._port = OwnPort(
                guarded(direct, self.edge.limits), self._settings.own_host, self._settings.own_port
            )
        return create_app(self.edge, probes, behind_serve=True)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Obey settings that change in place; called by Serve after the constructor, and later.

        Raises:
            ValueError: If they cannot be obeyed; what was obeyed before stays.
        """
        settings = with_live(self._settings, user_config)
        self._access.reconfigure(settings.access_settings().initial)
        bounds = settings.admission_bounds()
        self._desk.configure(bounds)
        self._brownout = bounds.brownout
        self.edge.limits = settings.request_limits()

    async def ready(self) -> dict[str, Any]:
        """Describe the model, the services and the store.

        Raises:
            Unavailable: If a service does not answer, the store was not asked so far, or the system
                drains.
        """
        self._admission.check_open()
        self._access.check_ready()
        return {**await self._services.ready(), "store": self._access.status()}

    async def _model(self) -> dict[str, Any] | None:
        return await described(self._facts, self._brownout)

    async def _stats(self, window_s: float) -> dict[str, Any]:
        counted, replicas = await asyncio.gather(
            self._ledger.stats(window_s), self._services.replicas()
        )
        return {**counted, "replicas": replicas}

    def __del__(self) -> None:
        """Stop what this replica started."""
        if self._port is not None:
            self._port.close()
        self._access.close()
        self._desk.close()
        self._ledger.close()
        self._images.close()
        self._fetcher.close()
        self._telemetry.close()
