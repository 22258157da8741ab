"""How does a set of objects become what runs, and how does one go back?"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from deploy.k8s.checks.ray import serve_config
from deploy.k8s.cluster import Cluster, ClusterError
from deploy.k8s.history import read_history, record
from deploy.k8s.manifest import Manifest, find, kind_of, label_of, name_of, ray_service
from deploy.k8s.status import RAY_API, Status, fetch_status

POLL_S = 2.0

_KEPT = ("PersistentVolumeClaim",)
"""Never deleted by an apply: they hold what took long to get."""

Change = Literal["install", "nothing", "in place", "new replicas", "new cluster"]
"""What an apply does to the running service."""

_IN_PLACE = ("user_config", "autoscaling_config", "max_ongoing_requests",
             "graceful_shutdown_timeout_s")  # fmt: skip
"""What Serve changes about a deployment without starting its replicas again."""


class NotReadyError(ClusterError):
    """The service was not ready in time; the message names what it waits for."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did.

    Attributes:
        revision: Its number in the history.
        change: What it means for the running service.
        deleted: Objects of the revision before that are no longer wanted, as `Kind/name`.
    """

    revision: int
    change: Change
    deleted: tuple[str, ...]


def classify(live: Manifest | None, wanted: Manifest) -> Change:
    """Say what KubeRay will do with a RayService.

    Bounds of replicas and the gateway's live settings change in place. Anything else in
    `serveConfigV2`, such as an argument of the application, makes Serve start all replicas again,
    some at a time. Anything else about the cluster, such as an image, makes a second cluster that
    takes over when it is ready.
    """
    if live is None:
        return "install"
    old, new = live["spec"], wanted["spec"]
    if not _contains(old["rayClusterConfig"], _without_replicas(new["rayClusterConfig"])):
        return "new cluster"
    if old["serveConfigV2"] == new["serveConfigV2"]:
        return "nothing"
    return "in place" if _fixed(live) == _fixed(wanted) else "new replicas"


def apply(
    cluster: Cluster,
    release: str,
    manifests: list[Manifest],
    note: str,
    *,
    force: bool = False,
    on_object: Callable[[str], None] = lambda _: None,
) -> Applied:
    """Bring objects to the cluster: all are tried first, then applied, then strays are deleted.

    Args:
        cluster: And namespace.
        release: Under which the history is kept.
        manifests: In the order in which they are to be applied.
        note: For the history.
        force: Whether fields of other managers are taken over.
        on_object: Told of each object, as `Kind/name`.

    Raises:
        ConflictError: If another manager owns a field.
        ClusterError: If the cluster refuses; if a trial refused, nothing was changed.
    """
    wanted = ray_service(manifests)
    live = cluster.get(RAY_API, "RayService", name_of(wanted))
    change = classify(live, wanted)
    history = read_history(cluster, release)
    for manifest in manifests:
        cluster.apply(manifest, dry_run=True, force=force)
    for manifest in manifests:
        cluster.apply(manifest, force=force)
        on_object(label_of(manifest))
    strays = _strays(history[-1].manifests if history else [], manifests)
    for stray in strays:
        cluster.delete(stray["apiVersion"], kind_of(stray), name_of(stray))
    revision = record(cluster, release, manifests, note)
    return Applied(revision, change, tuple(map(label_of, strays)))


def rollback(
    cluster: Cluster, release: str, number: int | None = None, *, force: bool = False
) -> Applied:
    """Apply the objects of an earlier revision again, as a new revision.

    Args:
        cluster: And namespace.
        release: Whose history is read.
        number: Of the revision; None takes the one before the last.
        force: Whether fields of other managers are taken over.

    Raises:
        ClusterError: If there is no such revision, or the cluster refuses.
    """
    history = {revision.number: revision for revision in read_history(cluster, release)}
    if number is None:
        if len(history) < 2:
            raise ClusterError(f"release {release} has no revision to go back to")
        number = sorted(history)[-2]
    if number not in history:
        have = ", ".join(map(str, sorted(history))) or "none"
        raise ClusterError(f"release {release} has no revision {number}; it has {have}")
    note = f"rollback to revision {number}"
    return apply(cluster, release, history[number].manifests, note, force=force)


def wait(
    cluster: Cluster,
    name: str,
    timeout_s: float,
    on_progress: Callable[[Status], None] = lambda _: None,
    poll_s: float = POLL_S,
) -> Status:
    """Wait until the service answers with what was applied last.

    Args:
        cluster: And namespace.
        name: Of the RayService.
        timeout_s: Longest wait.
        on_progress: Told of each look at the cluster.
        poll_s: Time between two looks.

    Raises:
        NotReadyError: If it is not ready in time.
        ClusterError: If the service cannot be read.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        status = fetch_status(cluster, name)
        on_progress(status)
        if status.done:
            return status
        if time.monotonic() + poll_s > deadline:
            raise NotReadyError(f"{name} is not ready after {timeout_s:g} s: {status.blocker()}")
        time.sleep(poll_s)


def images(manifests: list[Manifest]) -> list[str]:
    """Images of the Ray pods, for the history's notes."""
    cluster = [service["spec"]["rayClusterConfig"] for service in find(manifests, "RayService")]
    specs = [spec for c in cluster for spec in (c["headGroupSpec"], *c["workerGroupSpecs"])]
    return sorted({spec["template"]["spec"]["containers"][0]["image"] for spec in specs})


def _strays(before: list[Manifest], now: list[Manifest]) -> list[Manifest]:
    wanted = set(map(label_of, now))
    return [
        manifest
        for manifest in before
        if label_of(manifest) not in wanted and kind_of(manifest) not in _KEPT
    ]


def _without_replicas(cluster: Manifest) -> Manifest:
    """The autoscaler owns the number of workers; KubeRay does not compare it either."""
    groups = [
        {key: value for key, value in group.items() if key != "replicas"}
        for group in cluster["workerGroupSpecs"]
    ]
    return {**cluster, "workerGroupSpecs": groups}


def _fixed(service: Manifest) -> dict[str, Any]:
    """What is left of a Serve configuration without that which changes in place."""
    config = serve_config(service)
    for application in config["applications"]:
        application["deployments"] = [
            {key: value for key, value in deployment.items() if key not in _IN_PLACE}
            for deployment in application["deployments"]
        ]
    return config


def _contains(live: object, wanted: object) -> bool:
    """Whether everything wanted is there; the server adds defaults of its own."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return all(key in live and _contains(live[key], value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(live, list):
        return len(live) == len(wanted) and all(map(_contains, live, wanted))
    return live == wanted
