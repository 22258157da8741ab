"""Who uses how much, and does the store of the gateways answer?"""

from deploy.dashboards.panels import Board, Panel, Query, Row
from deploy.dashboards.promql import quantile, rate
from qzoom.telemetry.names import Metric

BOARD = Board(
    name="tenants",
    title="Q-Zoom / Tenants",
    about="Who uses how much, who is refused, and whether quotas are shared.",
    rows=(
        Row(
            "Who uses how much?",
            (
                Panel(
                    "Requests by tenant",
                    "Finished ones, refused too; `other` sums tenants beyond the first 50.",
                    (Query(rate(Metric.TENANT_REQUESTS, "tenant"), "{{tenant}}"),),
                    "reqps",
                    "stacked",
                ),
                Panel(
                    "Tokens by tenant",
                    "What counts for its limits: visual tokens computed, and tokens drawn.",
                    (Query(rate(Metric.TENANT_TOKENS, "tenant, kind"), "{{tenant}} {{kind}}"),),
                    "short",
                    "stacked",
                ),
                Panel(
                    "Refused for a limit",
                    "By the limit that was reached; `qzoom settings` changes it at once.",
                    (Query(rate(Metric.QUOTA_REFUSALS, "tenant, limit"), "{{tenant}} {{limit}}"),),
                    "reqps",
                ),
                Panel(
                    "Idempotency-Keys",
                    "`stored` were answered, `replayed` told again; `in_use` came too early.",
                    (Query(rate(Metric.REPLAYS, "outcome"), "{{outcome}}"),),
                    "reqps",
                ),
                Panel(
                    "Calls without a valid key",
                    "Strangers, or a client whose key was revoked.",
                    (Query(rate(Metric.AUTH_FAILURES)),),
                    "reqps",
                ),
            ),
        ),
        Row(
            "Is state shared?",
            (
                Panel(
                    "Gateways without their store",
                    "Their quotas are their own, and replays of other gateways are not known.",
                    (Query(f"sum({Metric.STORE_DEGRADED.value.name})"),),
                    "short",
                    "number",
                    width=6,
                    limits=(1, 1),
                ),
                Panel(
                    "How often the store was lost",
                    "A single one is a hiccup of a busy machine; see QZoomStoreLost.",
                    (Query(rate(Metric.STORE_LOSSES)),),
                    "short",
                    width=9,
                ),
                Panel(
                    "Waiting for the store",
                    "By what was asked; a request waits for Redis 50 ms at most.",
                    (
                        Query(
                            quantile(0.99, Metric.STORE_SECONDS, "operation"), "{{operation}} p99"
                        ),
                    ),
                    "s",
                    width=9,
                ),
            ),
        ),
    ),
)
