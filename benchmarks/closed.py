"""How many answers per second when some clients always wait for one? A closed loop."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.clients import Interface, Item, Sample, open_client
from benchmarks.servers.launch import Endpoint


@dataclass(frozen=True, slots=True)
class Closed:
    """What a closed loop found.

    Attributes:
        samples: One per request.
        seconds: That all of them took.
        client_cpu_s: CPU seconds of this process meanwhile.
    """

    samples: Sequence[Sample]
    seconds: float
    client_cpu_s: float

    @property
    def throughput(self) -> float:
        """Answers per second."""
        return sum(sample.error is None for sample in self.samples) / self.seconds

    @property
    def errors(self) -> list[str]:
        """What went wrong."""
        return [sample.error for sample in self.samples if sample.error is not None]


async def run_closed(
    endpoint: Endpoint, items: Sequence[Item], *, clients: int, interface: Interface = "rest"
) -> Closed:
    """Ask all questions, `clients` at a time."""
    samples: list[Sample] = []
    waiting = iter(enumerate(items))
    async with open_client(endpoint, interface) as client:

        async def work() -> None:
            for index, item in waiting:
                samples.append(await client.ask(index, item))

        began, cpu = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(work())
        return Closed(samples, time.perf_counter() - began, time.process_time() - cpu)
