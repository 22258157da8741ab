"""What is reused, and what do states take? For whoever sets the bounds on memory."""

from deploy.dashboards.panels import Board, Panel, Query, Row
from deploy.dashboards.promql import rate
from qzoom.telemetry.names import Metric

_TOKENS = Metric.CACHE_TOKENS

BOARD = Board(
    name="caches",
    title="Q-Zoom / Caches and memory",
    about="What stages find in their caches, what that spares, and what states take of memory.",
    rows=(
        Row(
            "What is reused",
            (
                Panel(
                    "Calls that reuse something",
                    "By stage, of the calls that could. Falls when replicas start anew or are "
                    "added: each has its own cache.",
                    (Query("qzoom:cache_hits:ratio15m", "{{stage}}"),),
                    "percentunit",
                ),
                Panel(
                    "Share of tokens that need not be computed",
                    "By stage. This is what reuse is worth; a hit may spare little.",
                    (
                        Query(
                            f"""{rate(_TOKENS, "stage", 'kind="reused"')} """
                            f"/ {rate(_TOKENS, 'stage')}",
                            "{{stage}}",
                        ),
                    ),
                    "percentunit",
                ),
                Panel(
                    "Tokens per second, found and computed",
                    "Over all stages.",
                    (Query(rate(_TOKENS, "stage, kind"), "{{stage}} {{kind}}"),),
                    "short",
                    "stacked",
                ),
                Panel(
                    "What a cache holds",
                    "Of one replica of each stage, at its last reply; bounded by reuse_bytes. "
                    "`gateway` is what it holds in the object store, bounded by reuse_mib.",
                    (
                        Query(
                            f"max by (stage) ({Metric.CACHE_BYTES.value.name})",
                            "{{stage}}",
                        ),
                    ),
                    "bytes",
                ),
            ),
        ),
        Row(
            "What requests in flight take",
            (
                Panel(
                    "State of requests",
                    "Pictures, visual tokens and prefill states in the object store. Falls to 0 "
                    "when nothing is in flight; what stays is a leak.",
                    (
                        Query(f"sum({Metric.STATE_REFERENCES.value.name})", "references"),
                        Query(f"sum({Metric.IN_FLIGHT.value.name})", "requests in flight"),
                    ),
                ),
                Panel(
                    "KV cache",
                    "What the admitted requests need, as predicted; bounded by admit_kv_mib.",
                    (Query(f"sum({Metric.KV_BYTES.value.name})", "needed"),),
                    "bytes",
                ),
                Panel(
                    "Object store",
                    "All of it, by where it lies; SPILLED is on disk, which is slow.",
                    (
                        Query(
                            "sum by (Location) (ray_object_store_memory)",
                            "{{Location}}",
                        ),
                    ),
                    "bytes",
                    "stacked",
                ),
                Panel(
                    "Requests that lost their state",
                    "They were run again: their replica died, or the store gave their state away.",
                    (Query(rate(Metric.RERUNS), "reruns"),),
                    "reqps",
                ),
            ),
        ),
    ),
)
