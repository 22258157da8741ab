"""What must an account be allowed to do in the namespace, to bring these objects to the cluster?"""

from collections.abc import Iterable

from deploy.k8s.cluster import Permission
from deploy.k8s.manifest import Manifest, kind_of

WRITE = ("get", "create", "patch", "delete")
"""Verbs for what we apply. Server-side apply is a patch; of a new object, a create as well."""

READ = (
    Permission("list", "", "pods"),
    Permission("get", "", "secrets"),
    Permission("list", "apps", "controllerrevisions"),
)
"""What status, doctor and history read beside the objects."""

_IRREGULAR = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}


def plural_of(kind: str) -> str:
    """Plural resource name of a kind; the chart's kinds need no question to the cluster."""
    return _IRREGULAR.get(kind, kind.lower() + "s")


def needed(manifests: Iterable[Manifest]) -> list[Permission]:
    """List the permissions, without repetition, in the order in which they are used."""
    wanted = dict.fromkeys(
        Permission(verb, _group(manifest["apiVersion"]), plural_of(kind_of(manifest)))
        for manifest in manifests
        for verb in WRITE
    )
    history = [Permission(verb, "apps", "controllerrevisions") for verb in WRITE]
    return list(dict.fromkeys([*wanted, *history, *READ]))


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]
