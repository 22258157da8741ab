"""How is the system doing? The metrics of all gateways as one JSON document, for `GET /v1/stats`.

The same counts as `/metrics`, with the quantiles already estimated from the histograms' buckets, so
that a page, a script or a person can read them without a monitoring system.
"""

import math
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from qzoom.telemetry.metrics import Samples
from qzoom.telemetry.names import SCORE_BUCKETS, STAGES, Kind, Metric

Json = dict[str, Any]
ROUTES = ("direct", "zoom")
PRIVATE = "tenant"
"""A label whose values nobody is told here."""

QUANTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}


class Counts:
    """Reads samples by metric and labels, and remembers which metrics were read.

    Args:
        samples: Of one window, over all gateways.
    """

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._read: set[Metric] = set()

    def total(self, metric: Metric, **labels: str) -> float:
        """Add up a counter or gauge over the labels that are not given."""
        return sum(
            value for found, value in self._of(metric, "") if labels.items() <= found.items()
        )

    def by(self, metric: Metric, label: str, **labels: str) -> dict[str, float]:
        """Split a counter by one of its labels; what was never counted is left out."""
        split: dict[str, float] = {}
        for found, value in self._of(metric, ""):
            if value and labels.items() <= found.items():
                split[found[label]] = split.get(found[label], 0.0) + value
        return split

    def buckets(self, metric: Metric, **labels: str) -> list[tuple[float, float]]:
        """Give (upper bound, cumulative count) of a histogram, the last bound infinite."""
        sums: dict[float, float] = {}
        for found, value in self._of(metric, "_bucket"):
            if labels.items() <= found.items():
                bound = float(found["le"])
                sums[bound] = sums.get(bound, 0.0) + value
        return sorted(sums.items())

    def mean(self, metric: Metric, **labels: str) -> float | None:
        """Give the mean of a histogram's values; None where there are none."""
        count = self._sum(metric, "_count", labels)
        return self._sum(metric, "_sum", labels) / count if count else None

    def unread(self) -> list[Json]:
        """List what nobody read, so that new metrics show by themselves; of histograms the mean.

        Tenants are added up: who may see these figures may not see theirs.
        """
        listed = []
        for metric in [metric for metric in Metric if metric not in self._read]:
            is_histogram = metric.value.kind is Kind.HISTOGRAM
            sums: dict[tuple[tuple[str, str], ...], float] = {}
            for labels, value in self._of(metric, "_count" if is_histogram else ""):
                key = tuple((name, text) for name, text in labels.items() if name != PRIVATE)
                sums[key] = sums.get(key, 0.0) + value
            for key, value in sums.items():
                entry = {
                    "name": metric.value.name,
                    "meaning": metric.value.meaning,
                    "labels": dict(key),
                    "value": value,
                }
                if is_histogram:
                    entry["mean"] = self.mean(metric, **dict(key))
                listed.append(entry)
        return listed

    def _sum(self, metric: Metric, suffix: str, labels: Mapping[str, str]) -> float:
        found = self._of(metric, suffix)
        return sum(value for has, value in found if labels.items() <= has.items())

    def _of(self, metric: Metric, suffix: str) -> Iterator[tuple[dict[str, str], float]]:
        self._read.add(metric)
        name = metric.value.name + suffix
        for (sample, labels), value in self._samples.items():
            if sample == name:
                yield dict(labels), value


def quantile(buckets: list[tuple[float, float]], share: float) -> float | None:
    """Estimate a quantile, evenly within its bucket as Prometheus does.

    Args:
        buckets: (upper bound, cumulative count), as `Counts.buckets` gives them.
        share: The quantile, in (0, 1).

    Returns:
        The estimate, at most the largest finite bound; None where nothing was counted.
    """
    if not buckets or not buckets[-1][1]:
        return None
    rank = share * buckets[-1][1]
    for (below, before), (bound, count) in pairwise([(0.0, 0.0), *buckets]):
        if count >= rank and count > before:
            if math.isinf(bound):
                return below
            return below + (bound - below) * (rank - before) / (count - before)
    return None


def summary(samples: Samples, window_s: float) -> Json:
    """Build the document.

    Args:
        samples: Counters and histograms of the window, gauges as they are.
        window_s: Its length in seconds.
    """
    counts = Counts(samples)
    requests = counts.total(Metric.REQUESTS)
    return {
        "object": "stats",
        "time": time.time(),
        "window_s": round(window_s, 1),
        "requests": {
            "finished": requests,
            "per_s": requests / max(window_s, 1.0),
            "in_flight": counts.total(Metric.IN_FLIGHT),
            "routes": counts.by(Metric.REQUESTS, "route"),
            "outcomes": counts.by(Metric.REQUESTS, "outcome"),
            "degraded": counts.by(Metric.DEGRADED, "stage"),
            "reruns": counts.total(Metric.RERUNS),
        },
        "latency": [
            {
                "route": route,
                "whole": _spread(counts, Metric.REQUEST_SECONDS, route=route),
                "first_token": _spread(counts, Metric.TTFT, route=route),
                "per_token": _spread(counts, Metric.TPOT, route=route),
            }
            for route in ROUTES
        ],
        "stages": [_stage(counts, stage.value) for stage in STAGES],
        "gate": {
            "scores": _scores(counts),
            "decisions": counts.by(Metric.GATE_DECISIONS, "decision"),
        },
        "tokens": {
            "visual": counts.by(Metric.VISUAL_TOKENS, "kind"),
            "text": counts.by(Metric.TEXT_TOKENS, "kind"),
        },
        "versions": sorted(counts.by(Metric.BUILD_INFO, "version")),
        "other": counts.unread(),
    }


def _stage(counts: Counts, stage: str) -> Json:
    return {
        "stage": stage,
        "queue": _spread(counts, Metric.STAGE_QUEUE, stage=stage),
        "compute": _spread(counts, Metric.STAGE_COMPUTE, stage=stage),
        "transfer": _spread(counts, Metric.STAGE_TRANSFER, stage=stage),
        "batch_size": counts.mean(Metric.BATCH_SIZE, stage=stage),
        "errors": counts.by(Metric.STAGE_ERRORS, "code", stage=stage),
    }


def _spread(counts: Counts, metric: Metric, **labels: str) -> Json:
    """Give count, mean and quantiles of a latency, in milliseconds; null where there are none."""
    buckets = counts.buckets(metric, **labels)
    mean = counts.mean(metric, **labels)
    spread: Json = {
        "count": buckets[-1][1] if buckets else 0.0,
        "mean_ms": None if mean is None else round(mean * 1e3, 3),
    }
    for name, share in QUANTILES.items():
        value = quantile(buckets, share)
        spread[name] = None if value is None else round(value * 1e3, 3)
    return spread


def _scores(counts: Counts) -> Json:
    """Give the gate's scores: edges of the bins from 0 to 1, and how many fell into each."""
    buckets = counts.buckets(Metric.GATE_SCORE) or [(math.inf, 0.0)]
    inside = [count - before for (_, before), (_, count) in pairwise([(0.0, 0.0), *buckets])]
    return {
        "edges": [0.0, *SCORE_BUCKETS, 1.0],
        "counts": inside if len(buckets) > 1 else [0.0] * (len(SCORE_BUCKETS) + 1),
    }
