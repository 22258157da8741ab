"""What does the gate decide, and what does that spare? For whoever sets tau."""

from deploy.dashboards.panels import Board, Panel, Query, Row
from deploy.dashboards.promql import buckets, quantile, rate
from qzoom.telemetry.names import Metric

_TOKENS = Metric.VISUAL_TOKENS

BOARD = Board(
    name="gate",
    title="Q-Zoom / Gate and RoI",
    about="How often the gate opens, how sure it is, and what the closed gate saves.",
    rows=(
        Row(
            "Decisions",
            (
                Panel(
                    "Gate opens",
                    "Share of the decided requests. A step without a new version is a drift of "
                    "what clients ask.",
                    (
                        Query("qzoom:gate_open:ratio15m", "15 minutes"),
                        Query("qzoom:gate_open:ratio1d", "1 day"),
                    ),
                    "percentunit",
                ),
                Panel(
                    "p(refine)",
                    "Scores of the gate; a healthy one has two ends and little between.",
                    (Query(buckets(Metric.GATE_SCORE), "{{le}}"),),
                    "short",
                    "heatmap",
                ),
                Panel(
                    "p(refine), quantiles",
                    "The median moves before the open rate does.",
                    (
                        Query(quantile(0.1, Metric.GATE_SCORE), "p10"),
                        Query(quantile(0.5, Metric.GATE_SCORE), "p50"),
                        Query(quantile(0.9, Metric.GATE_SCORE), "p90"),
                    ),
                ),
                Panel(
                    "Decisions per second",
                    "`open` asks the RPN.",
                    (Query(rate(Metric.GATE_DECISIONS, "decision"), "{{decision}}"),),
                    "reqps",
                    "stacked",
                ),
            ),
        ),
        Row(
            "What it saves",
            (
                Panel(
                    "Visual tokens per second",
                    "`spared` are those of crops that were not needed.",
                    (Query(rate(_TOKENS, "kind"), "{{kind}}"),),
                    "short",
                    "stacked",
                ),
                Panel(
                    "Share of visual tokens that is spared",
                    "Against zooming always.",
                    (
                        Query(
                            f"""{rate(_TOKENS, where='kind="spared"')} / {rate(_TOKENS)}""",
                            "spared",
                        ),
                    ),
                    "percentunit",
                ),
            ),
        ),
        Row(
            "When zooming fails",
            (
                Panel(
                    "Degraded answers per second",
                    "The coarse answer was given, as this stage failed or was late.",
                    (Query(rate(Metric.DEGRADED, "stage"), "{{stage}}"),),
                    "reqps",
                ),
                Panel(
                    "Degraded share of opened gates",
                    "More than 5 % raises an alert.",
                    (Query("qzoom:degraded:ratio15m", "degraded"),),
                    "percentunit",
                ),
            ),
        ),
    ),
)
