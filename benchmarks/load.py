"""How does a running server behave under load? Arrivals that do not wait for answers.

Open loop: requests arrive at random, as from many independent people, whether the server keeps up
or not. Works against any OpenAI-compatible server, so that ours can be compared with others.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.clients import Interface, Item, Sample, open_client
from benchmarks.servers.launch import Endpoint
from qzoom.metrics.match import exact_match

MAX_IN_FLIGHT = 512
"""Beyond this the generator counts arrivals as failed: the server has long lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One server at one rate.

    Attributes:
        server: Its name.
        interface: `rest` or `grpc`.
        rate: Requests per second that arrived on average.
        seconds: From the first arrival to the last answer.
        samples: One per request.
        items: What they asked.
        slo_s: Within which an answer must be complete to count.
        num_changed: Of the answers that were asked for again alone, those that are others.
    """

    server: str
    interface: Interface
    rate: float
    seconds: float
    samples: Sequence[Sample]
    items: Sequence[Item]
    slo_s: float
    num_changed: int = 0

    @property
    def answered(self) -> list[Sample]:
        """Requests without an error."""
        return [sample for sample in self.samples if sample.error is None]

    @property
    def throughput(self) -> float:
        """Answers per second."""
        return len(self.answered) / self.seconds

    @property
    def goodput(self) -> float:
        """Answers per second that were complete within the SLO."""
        return sum(sample.total_s <= self.slo_s for sample in self.answered) / self.seconds

    @property
    def attainment(self) -> float:
        """Share of all requests that were complete within the SLO."""
        good = sum(sample.total_s <= self.slo_s for sample in self.answered)
        return good / max(1, len(self.samples))

    def quantile_ms(self, which: str, q: float) -> float | None:
        """Quantile of `ttft_s`, `tpot_s` or `total_s` in milliseconds; None without values."""
        values = [v for s in self.answered if (v := getattr(s, which)) is not None]
        return float(1e3 * np.quantile(values, q)) if values else None

    @property
    def share_right(self) -> float | None:
        """Share of the answers that are right; None where nobody knows what is right."""
        known = [(s.text, t) for s in self.answered if (t := self.items[s.item].truth) is not None]
        if not known:
            return None
        return sum(exact_match(text, [truth]) for text, truth in known) / len(known)

    @property
    def errors(self) -> dict[str, int]:
        """Failed requests by what went wrong."""
        found: dict[str, int] = {}
        for sample in self.samples:
            if sample.error is not None:
                found[sample.error] = found.get(sample.error, 0) + 1
        return found


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Draw the times of a Poisson process, in seconds from the start.

    Args:
        rate: Arrivals per second on average.
        seconds: End of the process.
        seed: Equal seeds give equal times.
    """
    rng, at = random.Random(seed), 0.0
    while (at := at + rng.expovariate(rate)) < seconds:
        yield at


async def ask_all(
    endpoint: Endpoint, items: Sequence[Item], interface: Interface = "rest"
) -> list[Sample]:
    """Ask each question once, one after the other: a server that has nothing else to do."""
    async with open_client(endpoint, interface) as client:
        return [await client.ask(index, item) for index, item in enumerate(items)]


async def drive(
    endpoint: Endpoint,
    items: Sequence[Item],
    *,
    rate: float,
    seconds: float,
    seed: int,
    slo_s: float,
    interface: Interface = "rest",
) -> Outcome:
    """Let questions arrive for some time, and wait for all answers.

    Args:
        endpoint: Of the server.
        items: Taken in turn.
        rate: Arrivals per second on average.
        seconds: For how long questions arrive.
        seed: Of the times; rivals get the same ones.
        slo_s: Within which an answer must be complete.
        interface: How to ask.
    """
    samples: list[Sample] = []
    async with open_client(endpoint, interface) as client, asyncio.TaskGroup() as group:
        began, in_flight = time.perf_counter(), 0

        async def ask(index: int) -> None:
            nonlocal in_flight
            in_flight += 1
            try:
                samples.append(await client.ask(index, items[index]))
            finally:
                in_flight -= 1

        for number, at in enumerate(arrivals(rate, seconds, seed)):
            await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
            index = number % len(items)
            if in_flight >= MAX_IN_FLIGHT:
                samples.append(Sample(index, "", None, 0.0, 0, "not sent"))
                continue
            group.create_task(ask(index))
    # The quiet between the last arrival and the end of the time belongs to the run.
    lasted = max(seconds, time.perf_counter() - began)
    return Outcome(
        server=endpoint.name,
        interface=interface,
        rate=rate,
        seconds=lasted,
        samples=samples,
        items=items,
        slo_s=slo_s,
    )
