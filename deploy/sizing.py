"""How many replicas does each stage need for a load? From what a running system has measured.

By Little's law a stage has `rate * f * t` calls in work, `f` of its calls for a request, each `t`
seconds long; a replica works on `b` of them at once, and shall be busy for a share `u` of the time:

    replicas = ceil(rate * f * t / (b * u))

All three are means since the system started, as `/metrics` tells them. Batches grow under load, so
what was measured under less load asks for too many replicas rather than for too few.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from qzoom.telemetry.names import STAGES, Metric, Span

MIN_REQUESTS = 20
"""Fewer tell nothing."""

DEPLOYMENT_OF = {stage: stage.value.partition(".")[0] for stage in STAGES}
"""Which deployment runs a stage."""


@dataclass(frozen=True, slots=True)
class StageUse:
    """What one stage was measured to take.

    Attributes:
        stage: Which.
        calls: Of it for an average answered request.
        seconds: That a call takes in its batch.
        batch: Calls in a batch.
    """

    stage: Span
    calls: float
    seconds: float
    batch: float

    @property
    def replica_seconds(self) -> float:
        """Seconds of a replica that an average request takes."""
        return self.calls * self.seconds / self.batch


def read_uses(metrics: str) -> list[StageUse]:
    """Read what each stage takes from a scrape.

    Args:
        metrics: Text of `/metrics`.

    Raises:
        ValueError: If too few requests were answered to tell.
    """
    sums: defaultdict[tuple[str, str], float] = defaultdict(float)
    answered = 0.0
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == Metric.REQUESTS.value.name:
                answered += sample.value if sample.labels["outcome"] == "ok" else 0.0
            elif "stage" in sample.labels and sample.name.endswith(("_sum", "_count")):
                sums[sample.name, sample.labels["stage"]] += sample.value
    if answered < MIN_REQUESTS:
        raise ValueError(
            f"the system has answered {answered:g} requests since it started; "
            f"{MIN_REQUESTS} at least tell what a stage takes"
        )
    return list(_uses(sums, answered))


def _uses(sums: Mapping[tuple[str, str], float], answered: float) -> Iterator[StageUse]:
    compute, batch = Metric.STAGE_COMPUTE.value.name, Metric.BATCH_SIZE.value.name
    for stage in STAGES:
        calls = sums[f"{compute}_count", stage.value]
        if calls:
            yield StageUse(
                stage,
                calls / answered,
                sums[f"{compute}_sum", stage.value] / calls,
                max(1.0, sums[f"{batch}_sum", stage.value] / calls),
            )


def replicas_for(uses: list[StageUse], rate: float, busy: float) -> dict[str, int]:
    """Say how many replicas each deployment needs.

    Args:
        uses: Of its stages.
        rate: Requests per second.
        busy: Share of the time for which a replica shall be busy, in (0, 1].
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    for use in uses:
        seconds[DEPLOYMENT_OF[use.stage]] += use.replica_seconds
    return {name: max(1, math.ceil(rate * took / busy)) for name, took in seconds.items()}
