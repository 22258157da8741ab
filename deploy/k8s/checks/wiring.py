"""Does everything that is referred to exist, under the port and label that is used?"""

from collections.abc import Iterator

from deploy.k8s.manifest import Manifest, find, kind_of, label_of, name_of, pod_templates

Pods = list[tuple[str, Manifest]]

_MAX_PORT_NAME = 15


def _all_pods(manifests: list[Manifest]) -> Pods:
    return [pod for manifest in manifests for pod in pod_templates(manifest)]


def _select(pods: Pods, labels: dict[str, str]) -> Pods:
    return [pod for pod in pods if labels.items() <= pod[1]["metadata"]["labels"].items()]


def _ports(template: Manifest) -> dict[str, int]:
    return {
        port["name"]: port["containerPort"]
        for container in template["spec"]["containers"]
        for port in container.get("ports", [])
    }


def check_ports(manifests: list[Manifest]) -> Iterator[str]:
    """Ports of probes, Services and PodMonitors exist in the pods they are about."""
    pods = _all_pods(manifests)
    for place, template in pods:
        for container in template["spec"]["containers"]:
            yield from _check_container_ports(f"{place}/{container['name']}", container)
    wanted = [
        (service, service["spec"]["selector"], port["targetPort"])
        for service in find(manifests, "Service")
        for port in service["spec"]["ports"]
    ]
    wanted += [
        (monitor, monitor["spec"]["selector"]["matchLabels"], endpoint["port"])
        for monitor in find(manifests, "PodMonitor")
        for endpoint in monitor["spec"]["podMetricsEndpoints"]
    ]
    for manifest, selector, port in wanted:
        for place, template in _select(pods, selector):
            if port not in _ports(template):
                yield f"{label_of(manifest)}: {place} has no port {port}"


def _check_container_ports(place: str, container: Manifest) -> Iterator[str]:
    names = [port["name"] for port in container.get("ports", [])]
    for name in names:
        if len(name) > _MAX_PORT_NAME or names.count(name) > 1:
            yield f"{place}: port name {name} is too long or double"
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        port = container.get(probe, {}).get("httpGet", {}).get("port")
        if isinstance(port, str) and port not in names:
            yield f"{place}: {probe} asks port {port}, which is none"


def check_selectors(manifests: list[Manifest]) -> Iterator[str]:
    """Whatever selects pods selects some."""
    pods = _all_pods(manifests)
    for manifest in manifests:
        spec = manifest.get("spec", {})
        selectors: list[dict[str, str]] = []
        match kind_of(manifest):
            case "Service":
                selectors = [spec["selector"]]
            case "PodDisruptionBudget" | "PodMonitor":
                selectors = [spec["selector"]["matchLabels"]]
            case "NetworkPolicy":
                selectors = [spec["podSelector"].get("matchLabels", {}), *_peers(spec)]
            case "Deployment" | "StatefulSet":
                selectors = [spec["selector"]["matchLabels"]]
                if not selectors[0].items() <= spec["template"]["metadata"]["labels"].items():
                    yield f"{label_of(manifest)}: its selector does not select its own pods"
        for selector in selectors:
            if not _select(pods, selector):
                yield f"{label_of(manifest)}: no pod has the labels {selector}"


def _peers(spec: Manifest) -> Iterator[dict[str, str]]:
    """Pod selectors of a NetworkPolicy that mean pods of its own namespace."""
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for rule in spec.get(direction, []):
            for peer in rule.get(side, []):
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    yield peer["podSelector"].get("matchLabels", {})


def check_references(manifests: list[Manifest]) -> Iterator[str]:
    """Config maps, claims and accounts that pods name are rendered, and all mounts have a volume.

    Secrets and claims that the operator brings are not part of the chart: `needed_secrets`.
    """
    have = {label_of(manifest) for manifest in manifests}
    for place, template in _all_pods(manifests):
        spec = template["spec"]
        account = spec.get("serviceAccountName")
        if account and f"ServiceAccount/{account}" not in have:
            yield f"{place}: ServiceAccount/{account} is not rendered"
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        for volume in spec.get("volumes", []):
            config_map = volume.get("configMap", {}).get("name")
            if config_map and f"ConfigMap/{config_map}" not in have:
                yield f"{place}: ConfigMap/{config_map} is not rendered"
        for claim in find(manifests, "StatefulSet"):
            volumes |= {
                c["metadata"]["name"] for c in claim["spec"].get("volumeClaimTemplates", [])
            }
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    yield f"{place}/{container['name']}: no volume {mount['name']}"


def check_routes(manifests: list[Manifest]) -> Iterator[str]:
    """Backends of Ingress and Gateway API routes are rendered Services with that port."""
    ports = {
        name_of(service): {key for p in service["spec"]["ports"] for key in (p["name"], p["port"])}
        for service in find(manifests, "Service")
    }
    for manifest in manifests:
        spec = manifest.get("spec", {})
        backends: list[tuple[str, str | int]] = []
        if kind_of(manifest) == "Ingress":
            for rule in spec["rules"]:
                for path in rule["http"]["paths"]:
                    service = path["backend"]["service"]
                    port = service["port"]
                    backends.append((service["name"], port.get("name", port.get("number"))))
        if kind_of(manifest) in ("HTTPRoute", "GRPCRoute"):
            backends = [(b["name"], b["port"]) for r in spec["rules"] for b in r["backendRefs"]]
            listeners = {
                (name_of(gateway), listener["name"])
                for gateway in find(manifests, "Gateway")
                for listener in gateway["spec"]["listeners"]
            }
            for parent in spec["parentRefs"]:
                if (parent["name"], parent["sectionName"]) not in listeners:
                    yield f"{label_of(manifest)}: no listener {parent['sectionName']}"
        for name, port in backends:
            if port not in ports.get(name, set()):
                yield f"{label_of(manifest)}: no Service {name} with port {port}"


def needed_secrets(manifests: list[Manifest]) -> dict[str, set[str]]:
    """Secrets that must exist before the objects are applied, and the keys read from them."""
    needed: dict[str, set[str]] = {}
    stack: list[object] = list(manifests)
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            reference = node.get("secretKeyRef")
            if isinstance(reference, dict):
                needed.setdefault(reference["name"], set()).add(reference["key"])
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
    for ingress in find(manifests, "Ingress"):
        for tls in ingress["spec"].get("tls", []):
            needed.setdefault(tls["secretName"], set()).update({"tls.crt", "tls.key"})
    for gateway in find(manifests, "Gateway"):
        for listener in gateway["spec"]["listeners"]:
            for reference in listener["tls"]["certificateRefs"]:
                needed.setdefault(reference["name"], set()).update({"tls.crt", "tls.key"})
    return needed
