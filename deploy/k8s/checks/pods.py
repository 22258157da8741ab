"""May the pods run under PodSecurity `restricted`, and are their resources stated?"""

from collections.abc import Iterator

from deploy.k8s.checks.quantity import parse_quantity
from deploy.k8s.manifest import Manifest, kind_of, label_of, pod_templates

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
            "projected", "secret"}  # fmt: skip
"""Kinds of volumes that `restricted` allows."""

_HOST = ("hostNetwork", "hostPID", "hostIPC", "hostUsers")
_PROFILES = ("RuntimeDefault", "Localhost")
_CAPABILITIES = {"NET_BIND_SERVICE"}


def _containers(template: Manifest) -> Iterator[Manifest]:
    yield from template["spec"].get("initContainers", [])
    yield from template["spec"]["containers"]
    yield from template["spec"].get("ephemeralContainers", [])


def check_security(manifests: list[Manifest]) -> Iterator[str]:
    """Pods satisfy `restricted`, run on a read-only root and see no service variables.

    These are the rules of the Pod Security Standards for Linux pods, version 1.37. Kubernetes
    injects `<SERVICE>_PORT` variables for each Service; ours begin with QZOOM_ and our settings
    refuse variables that they do not know.
    """
    for manifest in manifests:
        for place, template in pod_templates(manifest):
            yield from _check_pod(place, template["spec"])
            for container in _containers(template):
                yield from _check_container(f"{place}/{container['name']}", container)
        if kind_of(manifest) == "RayService":
            # KubeRay makes a container of it in the head's pod; its image is the head's.
            options = manifest["spec"]["rayClusterConfig"].get("autoscalerOptions", {})
            place = f"{label_of(manifest)}/head/autoscaler"
            yield from _check_container_security(place, options.get("securityContext", {}))


def _check_pod(place: str, spec: Manifest) -> Iterator[str]:
    pod = spec.get("securityContext", {})
    if not pod.get("runAsNonRoot") or not pod.get("runAsUser"):
        yield f"{place}: must run as a numbered user other than root"
    if pod.get("seccompProfile", {}).get("type") not in _PROFILES:
        yield f"{place}: seccompProfile must be RuntimeDefault"
    if pod.get("sysctls"):
        yield f"{place}: no sysctls may be set"
    if spec.get("enableServiceLinks") is not False:
        yield f"{place}: enableServiceLinks must be false"
    for field in _HOST:
        if spec.get(field):
            yield f"{place}: {field} must not be used"
    for volume in spec.get("volumes", []):
        for kind in volume.keys() - {"name"} - _VOLUMES:
            yield f"{place}: volume {volume['name']} is a {kind}, which restricted forbids"


def _check_container(place: str, container: Manifest) -> Iterator[str]:
    yield from _check_container_security(place, container.get("securityContext", {}))
    for port in container.get("ports", []):
        if port.get("hostPort"):
            yield f"{place}: port {port['containerPort']} must not be one of the node"
    tag = container["image"].rpartition("/")[2].partition("@")[0].partition(":")[2]
    if tag in ("", "latest"):
        yield f"{place}: the image {container['image']} names no version"


def _check_container_security(place: str, security: Manifest) -> Iterator[str]:
    if security.get("allowPrivilegeEscalation") is not False:
        yield f"{place}: allowPrivilegeEscalation must be false"
    if security.get("privileged"):
        yield f"{place}: must not be privileged"
    if security.get("readOnlyRootFilesystem") is not True:
        yield f"{place}: the root file system must be read-only"
    capabilities = security.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - _CAPABILITIES:
        yield f"{place}: all capabilities must be dropped"
    if security.get("runAsNonRoot") is False or security.get("runAsUser") == 0:
        yield f"{place}: must not run as root"
    if security.get("seccompProfile", {}).get("type", _PROFILES[0]) not in _PROFILES:
        yield f"{place}: seccompProfile must be RuntimeDefault"
    if security.get("procMount", "Default") != "Default":
        yield f"{place}: procMount must be the default"


def check_resources(manifests: list[Manifest]) -> Iterator[str]:
    """Containers state requests and a memory limit; no request is above its limit."""
    for manifest in manifests:
        for place, template in pod_templates(manifest):
            for container in _containers(template):
                where = f"{place}/{container['name']}"
                resources = container.get("resources", {})
                requests, limits = resources.get("requests", {}), resources.get("limits", {})
                if not {"cpu", "memory"} <= requests.keys() or "memory" not in limits:
                    yield f"{where}: requests of cpu and memory and a limit of memory are needed"
                for resource, limit in limits.items():
                    asked = parse_quantity(requests.get(resource, 0))
                    if asked > parse_quantity(limit):
                        yield f"{where}: request of {resource} is above its limit {limit}"
                    if "/" in resource and asked != parse_quantity(limit):
                        yield f"{where}: request and limit of {resource} must be equal"
