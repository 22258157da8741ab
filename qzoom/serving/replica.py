"""What does every replica of a stage have? One compute thread, telemetry, and a status.

The event loop of a replica only receives, waits and sends; everything that touches tensors runs in
the compute thread, imports of torch included, so that health checks are always answered.
"""

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from qzoom.contracts.status import ReplicaStatus
from qzoom.settings import StageSettings
from qzoom.telemetry.service import ServiceTelemetry

if TYPE_CHECKING:
    from torch import Tensor


class Service(Protocol):
    """What a replica wraps."""

    def parameters(self) -> "Iterable[Tensor]":
        """All parameters that it holds, shared ones once."""
        ...


AnyService = TypeVar("AnyService", bound=Service)


class Replica:
    """The process-wide things of one replica; built once, in the deployment's constructor.

    Args:
        service: `encoder`, `gate`, `rpn` or `llm`.
        settings: Of that service.
    """

    def __init__(self, service: str, settings: StageSettings) -> None:
        self._started = time.monotonic()
        self._service = service
        self._settings = settings
        self._status: ReplicaStatus | None = None
        self.telemetry = ServiceTelemetry(service)
        self.compute = ThreadPoolExecutor(1, f"{service}-compute", initializer=self.prepare_thread)

    def prepare_thread(self) -> None:
        """Set torch's threads; OpenMP keeps this number for each thread that computes."""
        import torch  # noqa: PLC0415 a replica imports it, the application does not

        torch.set_num_threads(self._settings.threads or len(os.sched_getaffinity(0)))

    def load(self, build: Callable[[], AnyService]) -> AnyService:
        """Build the service in the compute thread and take its measure.

        Args:
            build: Imports what it needs and loads the tensors.

        Returns:
            The service, ready for requests.
        """
        service = self.compute.submit(build).result()
        tensors = list(service.parameters())
        self._status = ReplicaStatus(
            service=self._service,
            replica=f"{self._service}-{os.getpid()}",
            pid=os.getpid(),
            load_s=time.monotonic() - self._started,
            parameters=sum(t.numel() for t in tensors),
            parameter_bytes=sum(t.numel() * t.element_size() for t in tensors),
            memory_bytes=_resident_bytes(),
            device=self._settings.device,
            dtype=self._settings.dtype,
        )
        return service

    @property
    def status(self) -> ReplicaStatus:
        """What this replica holds, taken just after loading."""
        assert self._status is not None, "the replica has not loaded"
        return self._status

    def close(self) -> None:
        """End the compute thread after the current batch, and send what is left of the traces."""
        self.compute.shutdown(wait=False, cancel_futures=True)
        self.telemetry.close()


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
