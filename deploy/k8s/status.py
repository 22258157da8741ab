"""How far is the deployment, and what does it wait for? Read from the RayService and its pods."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from deploy.k8s.checks.ray import GROUP_LABEL
from deploy.k8s.cluster import Cluster, ClusterError
from deploy.k8s.manifest import Manifest, name_of

RAY_API = "ray.io/v1"

STAGES = ("encoder", "gate", "rpn", "llm", "gateway")
"""Deployments in the order in which they become ready; the gateway needs all others."""

HEALTHY = "HEALTHY"


@dataclass(frozen=True, slots=True)
class StageState:
    """One Serve deployment.

    Attributes:
        name: Such as `gate`.
        state: As Serve names it: `HEALTHY`, `UPDATING`, `UNHEALTHY`, ...
        message: Serve's own words, often the error of a replica.
    """

    name: str
    state: str
    message: str


@dataclass(frozen=True, slots=True)
class ClusterState:
    """One Ray cluster of the service: the active one or the one that is to replace it.

    Attributes:
        name: Of the RayCluster.
        traffic_percent: Share of the traffic during an incremental upgrade; None otherwise.
        stages: Serve's deployments, as far as they are known.
    """

    name: str
    traffic_percent: int | None
    stages: tuple[StageState, ...]


@dataclass(frozen=True, slots=True)
class PodState:
    """One pod.

    Attributes:
        name: Of the pod.
        group: Worker group, or `head`.
        ready: Whether it receives traffic.
        problem: What it waits for, in the words of Kubernetes; empty if nothing is known.
    """

    name: str
    group: str
    ready: bool
    problem: str


@dataclass(frozen=True, slots=True)
class Status:
    """The whole service.

    Attributes:
        ready: Whether requests are answered.
        settled: Whether what was applied last is what runs: seen by KubeRay, no upgrade going on.
        upgrading: Whether two clusters exist and traffic moves.
        endpoints: Pods that receive traffic.
        active: The cluster that answers.
        pending: The cluster that is being made.
        pods: All Ray pods.
        reason: KubeRay's words for not being ready.
    """

    ready: bool
    settled: bool
    upgrading: bool
    endpoints: int
    active: ClusterState | None
    pending: ClusterState | None
    pods: tuple[PodState, ...]
    reason: str

    @property
    def done(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.ready and self.settled

    def blocker(self) -> str:
        """Name what the deployment waits for, the most telling reason first."""
        for pod in self.pods:
            if pod.problem:
                return f"pod {pod.name} of group {pod.group}: {pod.problem}"
        cluster = self.pending or self.active
        if cluster is None:
            return self.reason or "KubeRay has not begun; is its operator running?"
        for stage in cluster.stages:
            if stage.state != HEALTHY:
                return f"stage {stage.name} is {stage.state}: {stage.message or 'no message yet'}"
        if not cluster.stages:
            return f"cluster {cluster.name} has not started Serve yet"
        if cluster.traffic_percent is not None and self.pending:
            return f"traffic moves to {cluster.name}: {cluster.traffic_percent} %"
        return self.reason or "pods are not ready to receive traffic"


def fetch_status(cluster: Cluster, name: str) -> Status:
    """Ask the cluster.

    Args:
        cluster: And namespace.
        name: Of the RayService.

    Raises:
        ClusterError: If there is no such RayService or it cannot be read.
    """
    service = cluster.get(RAY_API, "RayService", name)
    if service is None:
        raise ClusterError(f"there is no RayService {name} in namespace {cluster.namespace}")
    labels = service["metadata"].get("labels", {})
    release = labels.get("app.kubernetes.io/instance", name)
    pods = cluster.list(
        "v1",
        "Pod",
        f"app.kubernetes.io/instance={release},app.kubernetes.io/component=ray",
    )
    return read_status(service, pods)


def read_status(service: Manifest, pods: Iterable[Manifest] = ()) -> Status:
    """Read a RayService as KubeRay 1.7 writes it, and its pods."""
    status = service.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    ready = conditions.get("Ready", {})
    upgrading = _is_true(conditions, "UpgradeInProgress") or _is_true(
        conditions, "RollbackInProgress"
    )
    pending = _cluster_state(status.get("pendingServiceStatus"))
    seen = status.get("observedGeneration", 0) >= service["metadata"].get("generation", 1)
    active = _cluster_state(status.get("activeServiceStatus"))
    healthy = active is not None and all(stage.state == HEALTHY for stage in active.stages)
    reason = f"{ready.get('reason', '')}: {ready.get('message', '')}".strip(": ")
    return Status(
        ready=_is_true(conditions, "Ready"),
        settled=seen and not upgrading and pending is None and healthy,
        upgrading=upgrading,
        endpoints=status.get("numServeEndpoints", 0),
        active=active,
        pending=pending,
        pods=tuple(sorted(map(_pod_state, pods), key=lambda pod: (pod.group, pod.name))),
        reason=reason,
    )


def _is_true(conditions: dict[str, Any], name: str) -> bool:
    return bool(conditions.get(name, {}).get("status") == "True")


def _cluster_state(status: dict[str, Any] | None) -> ClusterState | None:
    if not status or not status.get("rayClusterName"):
        return None
    return ClusterState(
        name=status["rayClusterName"],
        traffic_percent=status.get("trafficRoutedPercent"),
        stages=tuple(sorted(_stages(status), key=_stage_order)),
    )


def _stages(status: dict[str, Any]) -> Iterator[StageState]:
    for application in (status.get("applicationStatuses") or {}).values():
        deployments = application.get("serveDeploymentStatuses") or {}
        for name, deployment in deployments.items():
            yield StageState(name, deployment.get("status", ""), deployment.get("message", ""))
        if not deployments and application.get("status") not in (None, "RUNNING"):
            # The application failed before it had deployments: a bad import or bad arguments.
            yield StageState("application", application["status"], application.get("message", ""))


def _stage_order(stage: StageState) -> int:
    return STAGES.index(stage.name) if stage.name in STAGES else -1


def _pod_state(pod: Manifest) -> PodState:
    labels = pod["metadata"].get("labels", {})
    status = pod.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    return PodState(
        name=name_of(pod),
        group=labels.get(GROUP_LABEL, "?"),
        ready=_is_true(conditions, "Ready"),
        problem=_pod_problem(status, conditions),
    )


def _pod_problem(status: dict[str, Any], conditions: dict[str, Any]) -> str:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"{scheduled.get('reason', 'Unschedulable')}: {scheduled.get('message', '')}"
    containers = [
        *status.get("initContainerStatuses", []),
        *status.get("containerStatuses", []),
    ]
    for container in containers:
        waiting = container.get("state", {}).get("waiting") or {}
        # A pod that is being made says so in the same field; that is no problem.
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message', '')}".strip(": ")
    if status.get("phase") == "Failed":
        return f"Failed: {status.get('message') or status.get('reason', '')}"
    return ""
