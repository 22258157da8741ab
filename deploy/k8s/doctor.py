"""What is missing in the cluster before these objects can run there?"""

import base64
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from deploy.k8s.checks.quantity import parse_quantity
from deploy.k8s.checks.wiring import needed_secrets
from deploy.k8s.cluster import Cluster, ClusterError, ForbiddenError
from deploy.k8s.manifest import Manifest, find, label_of, ray_service
from deploy.k8s.permissions import needed

MIN_KUBERNETES = (1, 29)
MIN_KUBERAY = (1, 7)
"""The first KubeRay with incremental upgrades on by default; what the chart was written against."""

GPU = "nvidia.com/gpu"

Verdict = Literal["ok", "unknown", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        verdict: `unknown` where the account may not look.
        what: What was looked at, with what was found.
        remedy: What to do; empty if nothing.
    """

    verdict: Verdict
    what: str
    remedy: str = ""


Probe = Callable[[Cluster, list[Manifest]], Iterator[Finding]]


def examine(cluster: Cluster, manifests: list[Manifest]) -> list[Finding]:
    """Look at everything that the objects need. Changes nothing."""
    findings: list[Finding] = []
    for probe in (_server, _kinds, _kuberay, _permissions, _namespace, _secrets, _storage, _gpus):
        try:
            findings.extend(probe(cluster, manifests))
        except ForbiddenError as error:
            findings.append(Finding("unknown", str(error)))
        except ClusterError as error:
            findings.append(Finding("missing", str(error)))
    return findings


def _server(cluster: Cluster, _: list[Manifest]) -> Iterator[Finding]:
    version = cluster.server_version()
    if _numbers(version) >= MIN_KUBERNETES:
        yield Finding("ok", f"Kubernetes {version}")
    else:
        wanted = ".".join(map(str, MIN_KUBERNETES))
        yield Finding("missing", f"Kubernetes {version}", f"upgrade to {wanted} or newer")


def _kinds(cluster: Cluster, manifests: list[Manifest]) -> Iterator[Finding]:
    where = {
        "ray.io": "install KubeRay: helm install kuberay-operator kuberay/kuberay-operator "
        "--version 1.7.0 --namespace kuberay-system --create-namespace",
        "monitoring.coreos.com": "install the Prometheus operator, or set "
        "monitoring.podMonitors.enabled and monitoring.rules.enabled to false",
        "gateway.networking.k8s.io": "install the Gateway API and a gateway controller, or set "
        "gatewayApi.enabled to false",
    }
    kinds = dict.fromkeys((m["apiVersion"], m["kind"]) for m in manifests)
    for api_version, kind in kinds:
        if not cluster.has_kind(api_version, kind):
            remedy = where.get(api_version.partition("/")[0], "upgrade Kubernetes")
            yield Finding("missing", f"kind {kind} ({api_version})", remedy)
    strategy = ray_service(manifests)["spec"]["upgradeStrategy"]["type"]
    gateway = "gateway.networking.k8s.io/v1"
    if strategy.endswith("IncrementalUpgrade") and not cluster.has_kind(gateway, "HTTPRoute"):
        yield Finding(
            "missing",
            f"upgrade strategy {strategy} needs the Gateway API",
            f"{where['gateway.networking.k8s.io']}, or ray.upgrade.type to NewCluster",
        )


def _kuberay(cluster: Cluster, _: list[Manifest]) -> Iterator[Finding]:
    selector = "app.kubernetes.io/name=kuberay-operator"
    operators = cluster.list("apps/v1", "Deployment", selector, namespace="")
    if not operators:
        yield Finding("unknown", "no deployment of the KubeRay operator has the usual label")
    for operator in operators:
        container = operator["spec"]["template"]["spec"]["containers"][0]
        version = container["image"].rpartition(":")[2]
        place = f"KubeRay {version} in {operator['metadata']['namespace']}"
        if not _numbers(version):
            yield Finding("unknown", f"{place}: the tag is no version")
        elif _numbers(version) < MIN_KUBERAY:
            yield Finding("missing", place, "upgrade KubeRay to 1.7 or newer")
        elif not operator.get("status", {}).get("readyReplicas"):
            yield Finding("missing", f"{place} is not ready", "see the operator's log")
        else:
            yield Finding("ok", place)
        if any("RayServiceIncrementalUpgrade=false" in arg for arg in container.get("args", [])):
            yield Finding(
                "missing",
                f"{place}: the gate RayServiceIncrementalUpgrade is off",
                "turn it on, or set ray.upgrade.type to NewCluster",
            )


def _permissions(cluster: Cluster, manifests: list[Manifest]) -> Iterator[Finding]:
    permissions = needed(manifests)
    refused = [str(permission) for permission in permissions if not cluster.may(permission)]
    if refused:
        remedy = "have an administrator render with rbac.deployer.enabled and apply its Role"
        yield Finding("missing", f"permissions: {', '.join(refused)}", remedy)
    else:
        yield Finding("ok", f"all {len(permissions)} permissions in {cluster.namespace}")


def _namespace(cluster: Cluster, _: list[Manifest]) -> Iterator[Finding]:
    name = cluster.namespace
    namespace = cluster.get("v1", "Namespace", name)
    if namespace is None:
        yield Finding("missing", f"namespace {name}", f"kubectl create namespace {name}")
        return
    key = "pod-security.kubernetes.io/enforce"
    level = namespace["metadata"].get("labels", {}).get(key)
    if level is None:
        remedy = f"kubectl label namespace {name} {key}=restricted"
        yield Finding("ok", f"namespace {name}; Pod Security is not enforced", remedy)
    else:
        yield Finding("ok", f"namespace {name}, Pod Security {level}")


def _secrets(cluster: Cluster, manifests: list[Manifest]) -> Iterator[Finding]:
    for name, keys in sorted(needed_secrets(manifests).items()):
        secret = cluster.get("v1", "Secret", name)
        have = {k for k, v in ((secret or {}).get("data") or {}).items() if base64.b64decode(v)}
        if keys <= have:
            yield Finding("ok", f"secret {name}")
            continue
        literals = " ".join(f"--from-literal={key}=..." for key in sorted(keys - have))
        remedy = f"kubectl -n {cluster.namespace} create secret generic {name} {literals}"
        if "tls.crt" in keys:
            remedy = (
                f"kubectl -n {cluster.namespace} create secret tls {name} --cert=... --key=..., "
                "or let cert-manager make it"
            )
        yield Finding("missing", f"secret {name}: no {', '.join(sorted(keys - have))}", remedy)


def _storage(cluster: Cluster, manifests: list[Manifest]) -> Iterator[Finding]:
    claims = [(label_of(m), m["spec"]) for m in find(manifests, "PersistentVolumeClaim")]
    claims += [
        (label_of(m), claim["spec"])
        for m in find(manifests, "StatefulSet")
        for claim in m["spec"].get("volumeClaimTemplates", [])
    ]
    if not claims:
        return
    classes = {
        found["metadata"]["name"]: found["metadata"].get("annotations") or {}
        for found in cluster.list("storage.k8s.io/v1", "StorageClass")
    }
    key = "storageclass.kubernetes.io/is-default-class"
    default = [name for name, notes in classes.items() if notes.get(key) == "true"]
    for place, spec in claims:
        wanted = spec.get("storageClassName") or next(iter(default), None)
        if wanted in classes:
            yield Finding("ok", f"storage class {wanted} for {place}")
        else:
            have = ", ".join(classes) or "none"
            remedy = f"name one of the cluster's storage classes ({have}) in the values"
            yield Finding("missing", f"storage class {wanted or '(default)'} for {place}", remedy)


def _gpus(cluster: Cluster, manifests: list[Manifest]) -> Iterator[Finding]:
    groups = ray_service(manifests)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    wanting = [(g, _gpu_limit(g)) for g in groups if _gpu_limit(g)]
    if not wanting:
        return
    nodes = cluster.list("v1", "Node")
    for group, per_pod in wanting:
        selector = group["template"]["spec"].get("nodeSelector", {})
        fitting = [n for n in nodes if selector.items() <= n["metadata"].get("labels", {}).items()]
        have = sum(
            (parse_quantity(n["status"].get("allocatable", {}).get(GPU, 0)) for n in fitting),
            Decimal(0),
        )
        need = per_pod * group["minReplicas"]
        what = f"group {group['groupName']}: {have} GPUs on {len(fitting)} nodes, {need} at least"
        if have >= need:
            yield Finding("ok", what)
        else:
            remedy = f"add nodes with {selector or GPU}, or let a cluster autoscaler do so"
            yield Finding("missing", what, remedy)


def _gpu_limit(group: Manifest) -> Decimal:
    container = group["template"]["spec"]["containers"][0]
    return parse_quantity(container["resources"]["limits"].get(GPU, 0))


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else ()
