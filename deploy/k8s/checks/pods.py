"""May the pods run under PodSecurity `restricted`, and are their resources stated?"""

from collections.abc import Iterator

from deploy.k8s.checks.quantity import parse_quantity
from deploy.k8s.manifest import Manifest, pod_templates


def _containers(template: Manifest) -> Iterator[Manifest]:
    yield from template["spec"].get("initContainers", [])
    yield from template["spec"]["containers"]


def check_security(manifests: list[Manifest]) -> Iterator[str]:
    """Pods satisfy `restricted`, run on a read-only root and see no service variables.

    Kubernetes injects `<SERVICE>_PORT` variables for each Service; ours begin with QZOOM_ and our
    settings refuse variables that they do not know.
    """
    for manifest in manifests:
        for place, template in pod_templates(manifest):
            spec = template["spec"]
            pod = spec.get("securityContext", {})
            if not pod.get("runAsNonRoot") or not pod.get("runAsUser"):
                yield f"{place}: must run as a numbered user other than root"
            if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
                yield f"{place}: seccompProfile must be RuntimeDefault"
            if spec.get("enableServiceLinks") is not False:
                yield f"{place}: enableServiceLinks must be false"
            for container in _containers(template):
                yield from _check_container(f"{place}/{container['name']}", container)


def _check_container(place: str, container: Manifest) -> Iterator[str]:
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield f"{place}: allowPrivilegeEscalation must be false"
    if security.get("readOnlyRootFilesystem") is not True:
        yield f"{place}: the root file system must be read-only"
    if security.get("capabilities", {}).get("drop") != ["ALL"]:
        yield f"{place}: all capabilities must be dropped"
    tag = container["image"].rpartition("/")[2].partition("@")[0].partition(":")[2]
    if tag in ("", "latest"):
        yield f"{place}: the image {container['image']} names no version"


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
