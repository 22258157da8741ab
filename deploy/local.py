"""How does the whole system run on one machine? Its own Ray, and Serve with HTTP and gRPC.

Prints nothing; whoever starts it is told the progress. Other Rays on the machine are not seen, not
joined and not stopped.
"""

import asyncio
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from deploy.config import AppConfig
from deploy.machine import check_free, end_processes_of, environment, free_port
from deploy.states import deployment_states
from qzoom.errors import Unavailable

APPLICATION = "qzoom"
LOOPBACK = "127.0.0.1"
GRPC_SERVICERS = (
    "gateway.rpc.servicer.add_servicer",
    "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server",
)
GPU_SHARE = 0.25
"""Part of a GPU that each service is booked for: all four share one."""

RAY_TRIES = 3
POLL_S = 0.25
READY_TIMEOUT_S = 10.0

# Ray reads its environment when it is imported, so every import of it below is local.

ENVIRONMENT = {
    # Serve's own limit is 2 GiB; pictures are limited far below this by ourselves.
    "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(32 * 1024 * 1024),
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "gateway.rest.proxy.proxy_middleware",
    # Ray listens on the machine's outer address on Linux, even if it is given a loopback address;
    # this is how it stays on loopback elsewhere.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Read by Ray's processes when they start."""

Phase = Literal["ray", "serve", "services", "ready"]


@dataclass(frozen=True, slots=True)
class LocalConfig:
    """Where the system listens and what it may take.

    Attributes:
        app: Model and settings.
        host: Address of the HTTP port. Anything but a loopback address lets other machines in, on
            the gRPC port too.
        port: Of HTTP.
        grpc_port: Of gRPC.
        start_timeout_s: Longest time until the system must be ready.
        object_store_bytes: Shared memory for state in flight.
        drain_timeout_s: Longest time for the requests that run when the system is told to stop.
        is_direct: Whether the gateways themselves listen on the HTTP port, instead of Serve's
            proxy: a hop less, but the requests of a gateway that dies are lost.
    """

    app: AppConfig
    host: str = LOOPBACK
    port: int = 8000
    grpc_port: int = 9000
    start_timeout_s: float = 600.0
    object_store_bytes: int = 1024**3
    drain_timeout_s: float = 60.0
    is_direct: bool = False

    @property
    def is_local_only(self) -> bool:
        """Whether only clients of this machine are served."""
        return self.host == "localhost" or ip_address(self.host).is_loopback


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known while the system starts.

    Attributes:
        phase: What is being started.
        elapsed_s: Seconds since the start.
        services: Whether each deployment runs, as Serve names its state.
    """

    phase: Phase
    elapsed_s: float
    services: Mapping[str, str] = field(default_factory=dict)


class LocalSystem:
    """The system on this machine, from `start` to `stop`; stops itself as a context manager.

    Args:
        config: Where and what.
    """

    def __init__(self, config: LocalConfig) -> None:
        self._config = config
        self._folder: Path | None = None
        self._is_serving = False

    @property
    def url(self) -> str:
        """Base URL of REST."""
        host = self._config.host
        if host != "localhost" and ip_address(host).is_unspecified:
            host = LOOPBACK
        return (
            f"http://[{host}]:{self._config.port}"
            if ":" in host
            else f"http://{host}:{self._config.port}"
        )

    @property
    def grpc_target(self) -> str:
        """Target of a gRPC channel."""
        return f"{LOOPBACK}:{self._config.grpc_port}"

    def start(self, on_progress: Callable[[Progress], None]) -> dict[str, Any]:
        """Start everything and wait until questions can be answered.

        Args:
            on_progress: Called a few times per second.

        Returns:
            What `/readyz` says: the model, and each service's load time, parameters and memory.

        Raises:
            Unavailable: If a port is taken, or a service cannot start, or not in time.
        """
        began = time.monotonic()

        def tell(phase: Phase, services: Mapping[str, str] | None = None) -> None:
            on_progress(Progress(phase, time.monotonic() - began, services or {}))

        for port in (self._config.port, self._config.grpc_port):
            check_free(self._config.host, port)
        tell("ray")
        self._start_ray()
        tell("serve")
        self._start_serve()
        while True:
            states = deployment_states(APPLICATION)
            tell("services", states)
            if states and all(state == "HEALTHY" for state in states.values()):
                ready, missing = self._ask_ready()
                if ready is not None:
                    tell("ready", states)
                    return ready
            else:
                missing = ", ".join(f"{name} {state}" for name, state in states.items())
            if time.monotonic() - began > self._config.start_timeout_s:
                raise Unavailable(f"not ready after {self._config.start_timeout_s:g} s: {missing}")
            time.sleep(POLL_S)

    def drain(self) -> bool:
        """Refuse new requests and wait for those that run.

        Returns:
            Whether all of them ended in time.
        """
        if not self._is_serving:
            return True
        from gateway.admission.shared import drain_application  # noqa: PLC0415 imports Ray

        return asyncio.run(drain_application(APPLICATION, self._config.drain_timeout_s))

    def stop(self) -> None:
        """Stop what `start` started, requests included. Does nothing the second time."""
        if self._folder is None:
            return
        import ray  # noqa: PLC0415
        from ray import serve  # noqa: PLC0415

        try:
            if self._is_serving:
                # Requests may end; what is left of Serve ends with its Ray.
                serve.delete(APPLICATION)
        finally:
            self._is_serving = False
            ray.shutdown()
            end_processes_of(self._folder)
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        """Nothing is started yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def _ask_ready(self) -> tuple[dict[str, Any] | None, str]:
        """Ask the gateway; return what it says, or why it says nothing."""
        try:
            response = httpx.get(f"{self.url}/readyz", timeout=READY_TIMEOUT_S)
        except httpx.TransportError as error:
            return None, f"the gateway does not answer: {error}"
        if response.status_code != httpx.codes.OK:
            return None, f"the gateway is not ready: {response.text}"
        return response.json(), ""

    def _start_ray(self) -> None:
        # Unix sockets lie in there, whose paths may have 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="qzoom-"))
        with environment(ENVIRONMENT, without=("RAY_ADDRESS",)):
            for tries_left in reversed(range(RAY_TRIES)):
                try:
                    _init_ray(self._folder, self._config.object_store_bytes)
                    return
                except Exception as error:
                    # On a busy machine Ray gives up on its own processes after 30 s.
                    end_processes_of(self._folder)
                    if not tries_left:
                        raise Unavailable(f"Ray did not start: {error}") from error

    def _start_serve(self) -> None:
        from ray import serve  # noqa: PLC0415
        from ray.serve.config import HTTPOptions, ProxyLocation, gRPCOptions  # noqa: PLC0415

        from deploy.app import build  # noqa: PLC0415

        self._is_serving = True
        host, port = self._config.host, self._config.port
        if self._config.is_direct:
            # Serve's proxy has a port, whether anybody asks there or not.
            host, port = LOOPBACK, free_port()
        serve.start(
            proxy_location=ProxyLocation.HeadOnly,
            http_options=HTTPOptions(host=host, port=port),
            grpc_options=gRPCOptions(
                port=self._config.grpc_port, grpc_servicer_functions=list(GRPC_SERVICERS)
            ),
        )
        assert self._folder is not None, "Ray has started"
        application = build(_for_this_machine(self._config, self._folder))
        target = serve.RunTarget(application, APPLICATION, route_prefix="/")
        serve.run_many(
            [target],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )


def _init_ray(folder: Path, object_store_bytes: int) -> None:
    import ray  # noqa: PLC0415
    from ray._private import ray_constants  # noqa: PLC0415

    # As in ENVIRONMENT, for this process, where Ray may have been imported before.
    ray_constants.ENABLE_RAY_CLUSTER = False
    ray.init(
        address="local",
        include_dashboard=False,
        object_store_memory=object_store_bytes,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address=LOOPBACK,
        _temp_dir=str(folder),
    )


def _for_this_machine(config: LocalConfig, folder: Path) -> AppConfig:
    """Fill in what follows from running everything here, with files in a folder of its own."""
    app, store = config.app, f"sqlite://{folder / 'store.sqlite3'}"
    gateway = {"local_clients_only": config.is_local_only, "store": store, **app.gateway}
    if config.is_direct:
        gateway |= {"own_host": config.host, "own_port": config.port}
    services: dict[str, Any] = {"gateway": gateway}
    for name in ("encoder", "gate", "rpn", "llm"):
        own: dict[str, Any] = getattr(app, name)
        if own.get("device", app.device) == "cuda":
            own = {"gpus": GPU_SHARE, **own}
        services[name] = own
    # What cannot start here will not start the next time either, and someone is waiting.
    return app.model_copy(update={**services, "constructor_tries": 1})
