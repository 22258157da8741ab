"""Are there enough replicas and machines? Serve's autoscaling, and Ray's nodes and memory.

The metrics are Ray's own, which each node exposes on port 8080.
"""

from deploy.dashboards.panels import Board, Panel, Query, Row
from deploy.dashboards.promql import rate
from qzoom.telemetry.names import Metric

BOARD = Board(
    name="scaling",
    title="Q-Zoom / Scaling and Ray",
    about="Replicas wanted and running, what waits for them, and the machines beneath.",
    rows=(
        Row(
            "Replicas",
            (
                Panel(
                    "Replicas wanted",
                    "What the autoscaler aims at.",
                    (
                        Query(
                            "max by (deployment) (ray_serve_autoscaling_target_replicas)",
                            "{{deployment}}",
                        ),
                    ),
                ),
                Panel(
                    "Replicas that are healthy",
                    "Fewer than wanted for minutes: a node is missing or a replica does not start.",
                    (
                        Query(
                            "sum by (deployment) (ray_serve_deployment_replica_healthy)",
                            "{{deployment}}",
                        ),
                    ),
                ),
                Panel(
                    "In work and waiting, as the autoscaler sees it",
                    "Divided by the target per replica this is the number of replicas wanted.",
                    (
                        Query(
                            "max by (deployment) (ray_serve_autoscaling_total_requests)",
                            "{{deployment}}",
                        ),
                    ),
                ),
                Panel(
                    "Waiting in callers",
                    "Calls that no replica has room for.",
                    (
                        Query(
                            "sum by (deployment) (ray_serve_deployment_queued_queries)",
                            "{{deployment}}",
                        ),
                    ),
                ),
                Panel(
                    "Starts of replicas",
                    "Steady growth is a crash loop.",
                    (
                        Query(
                            "sum by (deployment) "
                            "(increase(ray_serve_deployment_replica_starts_total[15m]))",
                            "{{deployment}}",
                        ),
                    ),
                ),
                Panel(
                    "Requests run again",
                    "Their state was lost with a replica.",
                    (Query(rate(Metric.RERUNS), "reruns"),),
                    "reqps",
                ),
            ),
        ),
        Row(
            "Machines",
            (
                Panel(
                    "CPU",
                    "Use of each node.",
                    (Query("ray_node_cpu_utilization", "{{instance}}"),),
                    "percent",
                ),
                Panel(
                    "Memory",
                    "Use of each node; above 95 % Ray kills workers.",
                    (Query("ray_node_mem_used / ray_node_mem_total", "{{instance}}"),),
                    "percentunit",
                ),
                Panel(
                    "GPU",
                    "Use of each card; nothing on nodes without one.",
                    (Query("ray_node_gpus_utilization", "{{instance}} {{GpuIndex}}"),),
                    "percent",
                ),
                Panel(
                    "Object store",
                    "States in flight. Flat while requests come and go; growth is a leak.",
                    (
                        Query(
                            "sum by (instance, Location) (ray_object_store_memory)",
                            "{{instance}} {{Location}}",
                        ),
                    ),
                    "bytes",
                    "stacked",
                ),
            ),
        ),
    ),
)
