"""The few shapes of PromQL that the panels use, over the names of `qzoom.telemetry.names`."""

from qzoom.telemetry.names import Metric

WINDOW = "$__rate_interval"


def rate(metric: Metric, by: str = "", where: str = "") -> str:
    """Events per second of a counter, summed over clusters.

    Args:
        metric: A counter.
        by: Labels that are kept, comma-separated.
        where: Matchers, such as `outcome="ok"`.
    """
    return _sum(f"rate({metric.value.name}{_braces(where)}[{WINDOW}])", by)


def quantile(share: float, metric: Metric, by: str = "", where: str = "") -> str:
    """A quantile of a histogram over all clusters.

    Args:
        share: In (0, 1), such as 0.95.
        metric: A histogram.
        by: Labels that are kept, comma-separated.
        where: Matchers.
    """
    labels = ", ".join(filter(None, (by, "le")))
    buckets = f"rate({metric.value.name}_bucket{_braces(where)}[{WINDOW}])"
    return f"histogram_quantile({share}, {_sum(buckets, labels)})"


def time_spent(metric: Metric, by: str = "") -> str:
    """Seconds spent per second: how many of these go on at once, on average."""
    return _sum(f"rate({metric.value.name}_sum[{WINDOW}])", by)


def mean(metric: Metric, by: str = "", where: str = "") -> str:
    """Mean of a histogram."""
    name, matchers = metric.value.name, _braces(where)
    total = _sum(f"rate({name}_sum{matchers}[{WINDOW}])", by)
    count = _sum(f"rate({name}_count{matchers}[{WINDOW}])", by)
    return f"{total} / {count}"


def buckets(metric: Metric) -> str:
    """What a heat map draws."""
    return _sum(f"increase({metric.value.name}_bucket[{WINDOW}])", "le")


def _sum(expr: str, by: str) -> str:
    return f"sum by ({by}) ({expr})" if by else f"sum({expr})"


def _braces(where: str) -> str:
    return f"{{{where}}}" if where else ""
