"""What was applied before? Each apply leaves a ControllerRevision with the objects in it.

So a rollback needs neither the old chart nor the old values, and works from any machine.
"""

import base64
import gzip
import json
from dataclasses import dataclass

from deploy.k8s.cluster import Cluster
from deploy.k8s.manifest import Manifest

KEEP = 10
"""Revisions that are kept; older ones are deleted."""

RELEASE_LABEL = "qzoom.io/release"
_API = "apps/v1"
_KIND = "ControllerRevision"


@dataclass(frozen=True, slots=True)
class Revision:
    """What one apply brought.

    Attributes:
        number: Counts up from 1.
        note: What the operator did.
        manifests: The objects.
        applied_at: RFC 3339 time at which the record was made.
    """

    number: int
    note: str
    manifests: list[Manifest]
    applied_at: str = ""


def read_history(cluster: Cluster, release: str) -> list[Revision]:
    """Read all revisions of a release, the oldest first.

    Raises:
        ClusterError: If they cannot be listed.
    """
    found = cluster.list(_API, _KIND, f"{RELEASE_LABEL}={release}")
    return sorted((_decode(one) for one in found), key=lambda revision: revision.number)


def record(cluster: Cluster, release: str, manifests: list[Manifest], note: str) -> int:
    """Remember what was applied and forget what is too old.

    Returns:
        The number of the new revision.

    Raises:
        ClusterError: If the record cannot be written.
    """
    numbers = [revision.number for revision in read_history(cluster, release)]
    number = max(numbers, default=0) + 1
    cluster.apply(_encode(cluster.namespace, release, Revision(number, note, manifests)))
    for old in numbers[: max(0, len(numbers) + 1 - KEEP)]:
        cluster.delete(_API, _KIND, _name(release, old))
    return number


def _name(release: str, number: int) -> str:
    return f"{release}-deploy-{number}"


def _encode(namespace: str, release: str, revision: Revision) -> Manifest:
    # Packed, as an object in the cluster may have 1.5 MB and dashboards are long.
    packed = gzip.compress(json.dumps(revision.manifests).encode(), mtime=0)
    return {
        "apiVersion": _API,
        "kind": _KIND,
        "metadata": {
            "name": _name(release, revision.number),
            "namespace": namespace,
            "labels": {RELEASE_LABEL: release},
        },
        "revision": revision.number,
        "data": {"note": revision.note, "manifests": base64.b64encode(packed).decode()},
    }


def _decode(stored: Manifest) -> Revision:
    data = stored["data"]
    manifests = json.loads(gzip.decompress(base64.b64decode(data["manifests"])))
    created = stored["metadata"].get("creationTimestamp") or ""
    return Revision(stored["revision"], data["note"], manifests, created)
