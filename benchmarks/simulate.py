"""What would more replicas or cores bring? The system as queues that share cores.

Every replica takes what waits as one batch, as the services do; the llm alternates between
prefilling newcomers and one decoding step for all. Whatever computes shares the cores evenly: with
more work than cores, each piece slows down. Overhead (gateway, Serve, transport, the client where
it runs on the same machine) is work without a queue of its own.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

LLM = "llm"


@dataclass(frozen=True, slots=True)
class StageCost:
    """CPU seconds of one batch: `fixed + each * requests`.

    Attributes:
        fixed: Seconds that a batch costs whatever its size.
        each: Seconds that each request of it adds.
    """

    fixed: float
    each: float

    def of(self, batch: int) -> float:
        """Seconds of a batch."""
        return self.fixed + self.each * batch

    @classmethod
    def fit(cls, seconds: Mapping[int, float]) -> "StageCost":
        """Fit measured seconds by batch size with least squares; both parts stay at least 0."""
        sizes, values = list(seconds), list(seconds.values())
        mean_n, mean_s = sum(sizes) / len(sizes), sum(values) / len(values)
        spread = sum((n - mean_n) ** 2 for n in sizes)
        slope = sum((n - mean_n) * (s - mean_s) for n, s in zip(sizes, values, strict=True))
        each = max(0.0, slope / spread) if spread else mean_s / mean_n
        return cls(max(0.0, mean_s - each * mean_n), each)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The system to simulate.

    Attributes:
        services: Stage name to the service that runs it; a service runs one batch at a time.
        costs: Of each stage; `llm.decode` is the cost of one step.
        direct: Stages of the direct route in order, without the llm's.
        zoom: Stages of the zoom route in order, without the llm's.
        zoom_share: Share of the requests that zoom.
        answer_tokens: Of each answer.
        overhead_s: CPU seconds a request beside the stages.
        max_batch: Most requests of a batch.
        slots: Most answers that an llm replica writes at once.
    """

    services: Mapping[str, str]
    costs: Mapping[str, StageCost]
    direct: Sequence[str]
    zoom: Sequence[str]
    zoom_share: float
    answer_tokens: int
    overhead_s: float
    max_batch: int = 16
    slots: int = 16


@dataclass(slots=True, eq=False)
class _Request:
    began: float
    stages: list[str]
    tokens_left: int = 0


@dataclass(slots=True, eq=False)
class _Work:
    left_s: float
    done: Callable[[], None]


@dataclass(slots=True, eq=False)
class _Replica:
    waiting: deque[tuple[str, _Request]] = field(default_factory=deque)
    running: list[_Request] = field(default_factory=list)
    is_busy: bool = False
    prefilled: bool = False

    @property
    def load(self) -> int:
        return len(self.waiting) + len(self.running) + self.is_busy


class Simulation:
    """A closed loop: some clients, each of which asks again when it has its answer.

    Args:
        model: The system.
        replicas: Of each service.
        cores: That all share.
        clients: Requests in flight.
        requests: How many in all.
        seed: Of the routes.
    """

    def __init__(
        self,
        model: Model,
        *,
        replicas: Mapping[str, int],
        cores: int,
        clients: int,
        requests: int,
        seed: int = 0,
    ) -> None:
        names = {*model.services.values(), LLM}
        self._replicas = {n: [_Replica() for _ in range(replicas.get(n, 1))] for n in names}
        self._model, self._cores, self._clients = model, cores, clients
        self._to_start, self._rng = requests, random.Random(seed)
        self._now, self._work = 0.0, list[_Work]()
        self.latencies_s: list[float] = []

    def run(self) -> float:
        """Run to the end.

        Returns:
            throughput: Requests per second, without the first and last tenth.
        """
        ends: list[float] = []
        for _ in range(min(self._clients, self._to_start)):
            self._start()
        while self._work:
            rate = min(1.0, self._cores / len(self._work))
            first = min(self._work, key=lambda work: work.left_s)
            step = first.left_s / rate
            self._now += step
            for work in self._work:
                work.left_s -= step * rate
            self._work.remove(first)
            before = len(self.latencies_s)
            first.done()
            ends += [self._now] * (len(self.latencies_s) - before)
        cut = len(ends) // 10
        inner = ends[cut : len(ends) - cut]
        return (len(inner) - 1) / (inner[-1] - inner[0])

    def _start(self) -> None:
        self._to_start -= 1
        model = self._model
        stages = model.zoom if self._rng.random() < model.zoom_share else model.direct
        request = _Request(self._now, list(stages))
        # Overhead is spread over the hops, one before each stage and one before the llm.
        self._overhead(request, len(stages) + 1)

    def _overhead(self, request: _Request, hops: int) -> None:
        self._work.append(_Work(self._model.overhead_s / hops, lambda: self._next(request, hops)))

    def _next(self, request: _Request, hops: int) -> None:
        if request.stages:
            stage = request.stages.pop(0)
            service = self._model.services[stage]
            replica = min(self._replicas[service], key=lambda r: r.load)
            replica.waiting.append((stage, request))
            self._serve(service, replica, hops)
        else:
            replica = min(self._replicas[LLM], key=lambda r: r.load)
            replica.waiting.append(("llm.resume", request))
            self._serve_llm(replica)

    def _serve(self, service: str, replica: _Replica, hops: int) -> None:
        if replica.is_busy or not replica.waiting:
            return
        batch = [replica.waiting.popleft()]
        # One service may run two stages; a batch holds one of them.
        while (
            replica.waiting
            and replica.waiting[0][0] == batch[0][0]
            and len(batch) < self._model.max_batch
        ):
            batch.append(replica.waiting.popleft())
        replica.is_busy = True

        def done() -> None:
            replica.is_busy = False
            for _, request in batch:
                self._overhead(request, hops)
            self._serve(service, replica, hops)

        self._work.append(_Work(self._model.costs[batch[0][0]].of(len(batch)), done))

    def _serve_llm(self, replica: _Replica) -> None:
        if replica.is_busy:
            return
        model = self._model
        room = min(model.slots - len(replica.running), model.max_batch)
        if replica.waiting and room > 0 and not (replica.prefilled and replica.running):
            joined = [replica.waiting.popleft()[1] for _ in range(min(room, len(replica.waiting)))]
            cost, replica.prefilled = model.costs["llm.resume"].of(len(joined)), True
        elif replica.running:
            joined, replica.prefilled = [], False
            cost = model.costs["llm.decode"].of(len(replica.running))
        else:
            return
        replica.is_busy = True

        def done() -> None:
            replica.is_busy = False
            for request in joined:
                request.tokens_left = model.answer_tokens - 1
                replica.running.append(request)
            if not joined:
                for request in replica.running:
                    request.tokens_left -= 1
            for request in [r for r in replica.running if r.tokens_left <= 0]:
                replica.running.remove(request)
                self.latencies_s.append(self._now - request.began)
                if self._to_start:
                    self._start()
            self._serve_llm(replica)

        self._work.append(_Work(cost, done))
