"""How much, how fast, how often? Counters and histograms of one gateway, and their sum over all.

Stages return the time of every call with its reply, so the gateways count for all replicas of all
services. A scrape reaches one gateway of several: each gateway hands its `Snapshot` to one
`MetricsLedger`, and any gateway renders the ledger's total.
"""

import threading
import time
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from qzoom.telemetry.names import Kind, Metric
from qzoom.version import VERSION

Labels = tuple[tuple[str, str], ...]
Samples = dict[tuple[str, Labels], float]
"""Value by sample name (`..._bucket`, `..._sum`, ...) and labels."""

_BY_SAMPLE = {
    sample: metric
    for metric in Metric
    for sample in (
        [metric.value.name + suffix for suffix in ("_bucket", "_sum", "_count")]
        if metric.value.kind is Kind.HISTOGRAM
        else [metric.value.name]
    )
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one process has counted since it started. Picklable and small.

    Attributes:
        source: Names the process; a process that restarts gets another name.
        samples: Values by name and labels.
    """

    source: str
    samples: Samples = field(default_factory=dict)


class MetricsRegistry:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.source = uuid.uuid4().hex
        self._registry = CollectorRegistry(auto_describe=False)
        self._metrics: dict[Metric, Counter | Gauge | Histogram] = {
            metric: self._register(metric) for metric in Metric
        }
        self.add(Metric.BUILD_INFO, VERSION)

    def _register(self, metric: Metric) -> Counter | Gauge | Histogram:
        spec = metric.value
        if spec.kind is Kind.HISTOGRAM:
            return Histogram(
                spec.name, spec.meaning, spec.labels, buckets=spec.buckets, registry=self._registry
            )
        kind = Counter if spec.kind is Kind.COUNTER else Gauge
        return kind(spec.name, spec.meaning, spec.labels, registry=self._registry)

    def add(self, metric: Metric, *labels: str, by: float = 1.0) -> None:
        """Count something.

        Args:
            metric: A counter, or a gauge that may also fall.
            *labels: Values of the metric's labels, in order.
            by: How much to add; at least 0 for counters.

        Raises:
            ValueError: If the labels do not fit the metric or a counter would fall.
        """
        child = self._child(metric, labels)
        assert isinstance(child, (Counter, Gauge)), f"{metric} is a histogram"
        child.inc(by)

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Set a gauge.

        Args:
            metric: A gauge.
            value: What it shows from now on.
            *labels: Values of the metric's labels, in order.
        """
        child = self._child(metric, labels)
        assert isinstance(child, Gauge), f"{metric} is no gauge"
        child.set(value)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Put a value into a histogram.

        Args:
            metric: A histogram.
            value: In the metric's unit.
            *labels: Values of the metric's labels, in order.

        Raises:
            ValueError: If the labels do not fit the metric.
        """
        child = self._child(metric, labels)
        assert isinstance(child, Histogram), f"{metric} is no histogram"
        child.observe(value)

    def _child(self, metric: Metric, labels: tuple[str, ...]) -> Counter | Gauge | Histogram:
        parent = self._metrics[metric]
        return parent.labels(*labels) if labels or metric.value.labels else parent

    def snapshot(self) -> Snapshot:
        """Copy all values, for a `MetricsLedger`."""
        samples: Samples = {}
        for family in self._registry.collect():
            for sample in family.samples:
                if sample.name in _BY_SAMPLE:
                    samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
        return Snapshot(self.source, samples)


class MetricsLedger:
    """Adds up the snapshots of all gateways, the living and the dead.

    A counter's total never falls: what a gateway that went away had counted stays in the sum.
    Its gauges do not: nothing is in flight in a dead process. Safe to use from several threads.

    Args:
        stale_s: Seconds without a snapshot after which a gateway counts as gone.
        max_sources: Most gateways that are remembered one by one; the counts of those that were
            silent longest are folded together beyond this.
    """

    def __init__(self, stale_s: float = 10.0, max_sources: int = 64) -> None:
        self._stale_s = stale_s
        self._max_sources = max_sources
        self._latest: OrderedDict[str, tuple[float, Snapshot]] = OrderedDict()
        self._folded = Snapshot("gone")
        self._lock = threading.Lock()

    def put(self, snapshot: Snapshot) -> None:
        """Take the newest snapshot of a gateway; it replaces that gateway's previous one."""
        with self._lock:
            self._latest[snapshot.source] = (time.monotonic(), snapshot)
            self._latest.move_to_end(snapshot.source)
            while len(self._latest) > self._max_sources:
                _, (_, oldest) = self._latest.popitem(last=False)
                self._folded = Snapshot("gone", merge([self._folded, _without_gauges(oldest)]))

    def total(self) -> Samples:
        """Add up what all gateways have counted."""
        now = time.monotonic()
        with self._lock:
            return merge(
                [
                    self._folded,
                    *(
                        snapshot if now - seen <= self._stale_s else _without_gauges(snapshot)
                        for seen, snapshot in self._latest.values()
                    ),
                ]
            )


def merge(snapshots: Iterable[Snapshot]) -> Samples:
    """Add up samples of the same name and labels.

    All processes share their buckets, so histograms add bucket by bucket. Gauges that all gateways
    see alike are not added, the highest counts: `qzoom_build_info` stays 1 for each version, since
    it says which versions run, not how many processes.
    """
    total: defaultdict[tuple[str, Labels], float] = defaultdict(float)
    for snapshot in snapshots:
        for key, value in snapshot.samples.items():
            total[key] = max(total[key], value) if _is_shared(key[0]) else total[key] + value
    return dict(total)


def render(samples: Samples) -> bytes:
    """Write samples in Prometheus' text format, each family with its help and type."""
    return generate_latest(_Exposition(samples))


class _Exposition(Collector):
    """Hands merged samples to prometheus_client's own writer."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Family]:
        """Group samples into families, in the order of `Metric`."""
        grouped: defaultdict[Metric, list[tuple[str, Labels, float]]] = defaultdict(list)
        for (name, labels), value in self._samples.items():
            grouped[_BY_SAMPLE[name]].append((name, labels, value))
        for metric in Metric:
            spec = metric.value
            family = Family(spec.name.removesuffix("_total"), spec.meaning, spec.kind.value)
            for name, labels, value in grouped[metric]:
                family.add_sample(name, dict(labels), value)
            yield family


def is_gauge(sample: str) -> bool:
    """Tell whether a sample belongs to a gauge: it says what is now, not what has happened."""
    return _BY_SAMPLE[sample].value.kind is Kind.GAUGE


def _is_shared(sample: str) -> bool:
    return _BY_SAMPLE[sample].value.is_shared


def _without_gauges(snapshot: Snapshot) -> Snapshot:
    kept = {key: value for key, value in snapshot.samples.items() if not is_gauge(key[0])}
    return Snapshot(snapshot.source, kept)
