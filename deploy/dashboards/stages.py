"""Which stage costs what? Queue, computation and transfer of each, and the two routes compared."""

from deploy.dashboards.panels import Board, Panel, Query, Row
from deploy.dashboards.promql import mean, quantile, rate, time_spent
from qzoom.telemetry.names import Metric, Span

_PARTS = (
    (Metric.STAGE_QUEUE, "Queue", "From the arrival at a replica to its batch: too few replicas."),
    (Metric.STAGE_COMPUTE, "Computation", "The batch itself: too large batches, or slow hardware."),
    (
        Metric.STAGE_TRANSFER,
        "Transfer",
        "The rest as the gateway sees it: routing, network, serialisation.",
    ),
)

_ZOOM_ONLY = f'stage=~"{Span.RPN_PROPOSE}|{Span.ENCODER_ROI}"'


def _per_request(metric: Metric) -> str:
    """Seconds of a stage that an average answered request takes."""
    answered = rate(Metric.REQUESTS, where='outcome="ok"')
    return f"{time_spent(metric, 'stage')} / on () group_left () {answered}"


_WHOLE = " + ".join(_per_request(metric) for metric, _, _ in _PARTS)


def _row(metric: Metric, title: str, about: str) -> Row:
    return Row(
        title,
        tuple(
            Panel(
                f"{title}, p{round(100 * share)}",
                about,
                (Query(quantile(share, metric, "stage"), "{{stage}}"),),
                "s",
                width=8,
            )
            for share in (0.5, 0.95, 0.99)
        ),
    )


BOARD = Board(
    name="stages",
    title="Q-Zoom / Stages",
    about="Find the slow stage: the longest bar on top, then its row below.",
    rows=(
        Row(
            "Where the time of an average request goes",
            (
                Panel(
                    "The slowest stage first",
                    "Queue, computation and transfer of each stage for an average answered "
                    "request. The first bar is where to look; the three below say which part.",
                    (Query(f"sort_desc({_WHOLE})", "{{stage}}"),),
                    "s",
                    "bars",
                    width=24,
                ),
                *(
                    Panel(
                        f"{title} per request",
                        f"{about} Averaged over all answered requests, zoomed or not.",
                        (Query(_per_request(metric), "{{stage}}"),),
                        "s",
                        "bars",
                        width=8,
                    )
                    for metric, title, about in _PARTS
                ),
                Panel(
                    "Queue and computation per request, over time",
                    "The height is the time in stages; the widest band is the stage to look at.",
                    (
                        Query(_per_request(Metric.STAGE_COMPUTE), "{{stage}} computes"),
                        Query(_per_request(Metric.STAGE_QUEUE), "{{stage}} waits"),
                    ),
                    "s",
                    "stacked",
                    width=24,
                ),
            ),
        ),
        Row(
            "Direct against zoom",
            (
                Panel(
                    "An answer, by route",
                    "From the first byte to the last token, p50 and p95.",
                    (
                        Query(quantile(0.5, Metric.REQUEST_SECONDS, "route"), "{{route}} p50"),
                        Query(quantile(0.95, Metric.REQUEST_SECONDS, "route"), "{{route}} p95"),
                    ),
                    "s",
                ),
                Panel(
                    "What a zoom adds",
                    "Mean of the stages that only a zoom runs. The resumed prefill grows as well.",
                    (
                        Query(mean(Metric.STAGE_QUEUE, "stage", _ZOOM_ONLY), "{{stage}} waits"),
                        Query(
                            mean(Metric.STAGE_COMPUTE, "stage", _ZOOM_ONLY), "{{stage}} computes"
                        ),
                    ),
                    "s",
                    "stacked",
                ),
            ),
        ),
        *(_row(*part) for part in _PARTS),
        Row(
            "Load and failures",
            (
                Panel(
                    "Calls per second",
                    "By stage.",
                    (Query("qzoom:stage_calls:rate5m", "{{stage}}"),),
                    "reqps",
                    width=8,
                ),
                Panel(
                    "Requests per batch",
                    "Mean; batches grow where calls wait.",
                    (Query(mean(Metric.BATCH_SIZE, "stage"), "{{stage}}"),),
                    width=8,
                ),
                Panel(
                    "Failed calls per second",
                    "By stage and code.",
                    (Query(rate(Metric.STAGE_ERRORS, "stage, code"), "{{stage}} {{code}}"),),
                    "reqps",
                    width=8,
                ),
            ),
        ),
    ),
)
