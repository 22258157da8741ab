"""Is the service well? The first look of whoever is on duty, and the objectives."""

from deploy.dashboards.panels import Board, Panel, Query, Row
from deploy.dashboards.promql import mean, quantile, rate, time_spent
from qzoom.telemetry.names import Metric

BOARD = Board(
    name="overview",
    title="Q-Zoom / Overview",
    about="Start here: is it well, is it fast, and which stage costs the time.",
    rows=(
        Row(
            "Is it well?",
            (
                Panel(
                    "Requests per second",
                    "All finished requests, refused ones too.",
                    (Query(rate(Metric.REQUESTS)),),
                    "reqps",
                    "number",
                    width=5,
                    height=5,
                ),
                Panel(
                    "Failing",
                    "Of the requests that are the client's right, over 5 minutes. The objective "
                    "allows 0.1 % over 30 days.",
                    (Query("qzoom:request_errors:ratio5m or vector(0)"),),
                    "percentunit",
                    "number",
                    width=5,
                    height=5,
                    limits=(0.001, 0.0144),
                ),
                Panel(
                    "Late first tokens",
                    "Answers that begin after more than 2.5 s, over 5 minutes; 5 % are allowed.",
                    (Query("qzoom:slow_starts:ratio5m"),),
                    "percentunit",
                    "number",
                    width=5,
                    height=5,
                    limits=(0.05, 0.2),
                ),
                Panel(
                    "In flight",
                    "Requests being worked on, in all gateways.",
                    (Query(f"sum({Metric.IN_FLIGHT.value.name})"),),
                    "short",
                    "number",
                    width=4,
                    height=5,
                ),
                Panel(
                    "Slowest stage now",
                    "The stage that most of the time of all requests is spent in; see 'Stages'.",
                    (
                        Query(
                            f"topk(1, {time_spent(Metric.STAGE_QUEUE, 'stage')} "
                            f"+ {time_spent(Metric.STAGE_COMPUTE, 'stage')})",
                            "{{stage}}",
                        ),
                    ),
                    "s",
                    "bars",
                    width=5,
                    height=5,
                ),
            ),
        ),
        Row(
            "What clients see",
            (
                Panel(
                    "Requests by outcome",
                    "`ok`, or the code of the error that the client got.",
                    (Query(rate(Metric.REQUESTS, "outcome"), "{{outcome}}"),),
                    "reqps",
                    "stacked",
                ),
                Panel(
                    "Requests by route",
                    "`zoom` looked at a region again; `none` ended before a decision.",
                    (Query(rate(Metric.REQUESTS, "route"), "{{route}}"),),
                    "reqps",
                    "stacked",
                ),
                Panel(
                    "Time to the first token",
                    "From the first byte of the request, by route.",
                    (
                        Query(quantile(0.5, Metric.TTFT, "route"), "{{route}} p50"),
                        Query(quantile(0.95, Metric.TTFT, "route"), "{{route}} p95"),
                        Query(quantile(0.99, Metric.TTFT, "route"), "{{route}} p99"),
                    ),
                    "s",
                ),
                Panel(
                    "Time to the last token",
                    "Answered requests, by route: what a zoom costs its client.",
                    (
                        Query(quantile(0.5, Metric.REQUEST_SECONDS, "route"), "{{route}} p50"),
                        Query(quantile(0.95, Metric.REQUEST_SECONDS, "route"), "{{route}} p95"),
                        Query(quantile(0.99, Metric.REQUEST_SECONDS, "route"), "{{route}} p99"),
                    ),
                    "s",
                ),
                Panel(
                    "Time per token",
                    "Between two tokens of one answer, averaged over the answer.",
                    (
                        Query(quantile(0.5, Metric.TPOT), "p50"),
                        Query(quantile(0.95, Metric.TPOT), "p95"),
                    ),
                    "s",
                ),
                Panel(
                    "Tokens per second",
                    "Prompt tokens include visual ones.",
                    (Query(rate(Metric.TEXT_TOKENS, "kind"), "{{kind}}"),),
                    "short",
                ),
            ),
        ),
        Row(
            "How load is shed",
            (
                Panel(
                    "Brown-out",
                    "Steps by which tau_gate is raised and RoI budgets lowered; 0 changes nothing.",
                    (Query(f"max({Metric.BROWNOUT_LEVEL.value.name})", "level"),),
                    "short",
                ),
                Panel(
                    "At the door",
                    "`admitted`, or why not; `door_closed` was refused by a proxy.",
                    (Query(rate(Metric.ADMISSIONS, "outcome"), "{{outcome}}"),),
                    "reqps",
                    "stacked",
                ),
                Panel(
                    "Waiting to be admitted",
                    "Requests in the queue, over all gateways.",
                    (Query(f"sum({Metric.ADMISSION_WAITING.value.name})", "waiting"),),
                    "short",
                ),
                Panel(
                    "Wait of the admitted",
                    "From the arrival at the door to leave to work.",
                    (
                        Query(quantile(0.5, Metric.ADMISSION_WAIT), "p50"),
                        Query(quantile(0.99, Metric.ADMISSION_WAIT), "p99"),
                    ),
                    "s",
                ),
            ),
        ),
        Row(
            "Objectives",
            (
                Panel(
                    "Error budget: how fast it burns",
                    "1 spends the budget of 30 days in exactly 30 days; at 14.4 someone is woken.",
                    (
                        Query("qzoom:request_errors:ratio5m / 0.001", "5 minutes"),
                        Query("qzoom:request_errors:ratio1h / 0.001", "1 hour"),
                        Query("qzoom:request_errors:ratio6h / 0.001", "6 hours"),
                    ),
                ),
                Panel(
                    "Alerts that fire",
                    "Each has a runbook in docs/operations.md.",
                    (
                        Query(
                            'ALERTS{alertname=~"QZoom.*", alertstate="firing"}',
                            "{{alertname}} {{stage}}",
                        ),
                    ),
                ),
                Panel(
                    "Versions",
                    "Two during a rollout.",
                    (Query(f"{Metric.BUILD_INFO.value.name}", "{{version}}"),),
                    "short",
                    "number",
                    height=6,
                ),
                Panel(
                    "Mean batch size",
                    "Requests that shared a batch, by stage.",
                    (Query(mean(Metric.BATCH_SIZE, "stage"), "{{stage}}"),),
                    height=6,
                ),
            ),
        ),
    ),
)
