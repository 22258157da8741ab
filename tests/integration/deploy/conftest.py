"""A small API server on a real socket, and a kubeconfig for it.

It keeps the parts of the Kubernetes API that `qzoom deploy` uses: discovery, server-side apply with
ownership of fields, dry runs, label selectors, access reviews. What KubeRay would do is done by the
test, which writes the status.
"""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from deploy.k8s.cluster import Cluster
from deploy.k8s.manifest import Manifest

NAMESPACE = "qzoom"

KINDS = {
    "v1": ["Service", "ConfigMap", "ServiceAccount", "PersistentVolumeClaim", "Pod", "Secret",
           "Namespace", "Node"],
    "apps/v1": ["StatefulSet", "Deployment", "ControllerRevision"],
    "batch/v1": ["Job"],
    "networking.k8s.io/v1": ["NetworkPolicy", "Ingress"],
    "policy/v1": ["PodDisruptionBudget"],
    "storage.k8s.io/v1": ["StorageClass"],
    "authorization.k8s.io/v1": ["SelfSubjectAccessReview"],
    "ray.io/v1": ["RayService"],
}  # fmt: skip
CLUSTER_WIDE = {"Namespace", "Node", "StorageClass", "SelfSubjectAccessReview"}
IRREGULAR = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses",
             "StorageClass": "storageclasses"}  # fmt: skip

PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v\d+)"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?"
)


def plural(kind: str) -> str:
    return IRREGULAR.get(kind, kind.lower() + "s")


class ApiServer:
    """The state behind the socket; tests read and write it directly."""

    def __init__(self) -> None:
        self.kinds = {version: list(kinds) for version, kinds in KINDS.items()}
        self.objects: dict[tuple[str, str], Manifest] = {}
        self.forbidden: set[tuple[str, str]] = set()
        self.refused: dict[str, str] = {}
        self.foreign_owner: str | None = None
        self.applied: list[str] = []
        self.version = "v1.32.4"

    def put(self, manifest: Manifest) -> None:
        self.objects[manifest["kind"], manifest["metadata"]["name"]] = manifest

    def get(self, kind: str, name: str) -> Manifest:
        return self.objects[kind, name]

    def names(self, kind: str) -> list[str]:
        return sorted(name for found, name in self.objects if found == kind)

    def answer(self, method: str, url: str, body: bytes) -> tuple[int, Any]:  # noqa: PLR0911
        parts = urlsplit(url)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        discovered = self._discover(parts.path)
        if discovered is not None:
            return 200, discovered
        found = PATH.fullmatch(parts.path)
        kind = self._kind(found["plural"]) if found else None
        if found is None or kind is None:
            return _status(404, "no such path")
        verb = {"GET": "get" if found["name"] else "list", "PATCH": "patch"}.get(method, method)
        if (verb, found["plural"]) in self.forbidden:
            return _status(403, f"{found['plural']} is forbidden: cannot {verb}")
        match method:
            case "GET" if found["name"]:
                stored = self.objects.get((kind, found["name"]))
                return (200, stored) if stored else _status(404, f'"{found["name"]}" not found')
            case "GET":
                return 200, self._list(kind, found, query)
            case "PATCH":
                return self._apply(kind, found["name"], json.loads(body), query)
            case "DELETE":
                gone = self.objects.pop((kind, found["name"]), None)
                return (200, gone) if gone else _status(404, "not found")
            case "POST":
                return 201, self._review(json.loads(body))
        return _status(405, method)

    def _discover(self, path: str) -> Any:
        groups = [version for version in self.kinds if "/" in version]
        if path.rstrip("/") == "/version":
            fields = ("buildDate", "compiler", "gitCommit", "gitTreeState", "goVersion",
                      "major", "minor", "platform")  # fmt: skip
            return {**dict.fromkeys(fields, "x"), "gitVersion": self.version}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            entries = []
            for version in groups:
                entry = {"groupVersion": version, "version": version.partition("/")[2]}
                name = version.partition("/")[0]
                entries.append({"name": name, "versions": [entry], "preferredVersion": entry})
            return {"kind": "APIGroupList", "groups": entries}
        version = path.removeprefix("/apis/").removeprefix("/api/")
        if version not in self.kinds:
            return None
        resources = [
            {
                "name": plural(kind), "singularName": kind.lower(), "kind": kind,
                "namespaced": kind not in CLUSTER_WIDE,
                "verbs": ["get", "list", "create", "patch", "delete"],
            }
            for kind in self.kinds[version]
        ]  # fmt: skip
        return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}

    def _kind(self, name: str) -> str | None:
        kinds = [kind for kinds in self.kinds.values() for kind in kinds]
        return next((kind for kind in kinds if plural(kind) == name), None)

    def _list(self, kind: str, path: re.Match[str], query: dict[str, str]) -> Manifest:
        # As the real one: items carry neither kind nor version.
        items = [
            {key: value for key, value in stored.items() if key not in ("kind", "apiVersion")}
            for stored in self._select(kind, query)
        ]
        version = "/".join(filter(None, (path["group"], path["version"])))
        return {"apiVersion": version, "kind": f"{kind}List", "items": items}

    def _select(self, kind: str, query: dict[str, str]) -> list[Manifest]:
        wanted = dict(p.split("=") for p in query.get("labelSelector", "").split(",") if p)
        return [
            stored
            for (found, _), stored in self.objects.items()
            if found == kind and wanted.items() <= (stored["metadata"].get("labels") or {}).items()
        ]

    def _apply(self, kind: str, name: str, body: Manifest, query: dict[str, str]) -> Any:
        label = f"{kind}/{name}"
        if label in self.refused:
            return _status(422, self.refused[label])
        if label == self.foreign_owner and query.get("force") != "true":
            return _status(409, 'Apply failed with 1 conflict: conflict with "kubectl"')
        assert query["fieldManager"] == "qzoom-deploy"
        before = self.objects.get((kind, name))
        after = {**body, "metadata": {**body["metadata"], "generation": 1}}
        if before is not None:
            changed = {k: before.get(k) for k in body} != body | {"metadata": before["metadata"]}
            after["metadata"]["generation"] = before["metadata"].get("generation", 1) + changed
            after["status"] = before.get("status", {})
        after["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
        if query.get("dryRun") != "All":
            self.objects[kind, name] = after
            self.applied.append(label)
        return (200 if before else 201), after

    def _review(self, body: Manifest) -> Manifest:
        asked = body["spec"]["resourceAttributes"]
        allowed = (asked["verb"], asked["resource"]) not in self.forbidden
        return {**body, "status": {"allowed": allowed}}


def _status(code: int, message: str) -> tuple[int, Manifest]:
    return code, {"kind": "Status", "apiVersion": "v1", "code": code, "message": message}


@pytest.fixture
def api(tmp_path, monkeypatch) -> Iterator[ApiServer]:
    """A server with what `doctor` wants to see, named by KUBECONFIG."""
    state = ApiServer()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            code, answer = state.answer(self.command, self.path, self.rfile.read(length))
            payload = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: object) -> None:
            """Tests read the answers."""

    for method in ("GET", "POST", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._do)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    kubeconfig = tmp_path / "kubeconfig"
    context = {"name": "test", "context": {"cluster": "test", "user": "test"}}
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "test",
                "clusters": [{"name": "test", "cluster": {"server": url}}],
                "users": [{"name": "test", "user": {"token": "t"}}], "contexts": [context],
            }
        )
    )  # fmt: skip
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    # The client's module has read the variable already.
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig)
    )
    _furnish(state)
    yield state
    server.shutdown()
    server.server_close()
    thread.join(5)


def _furnish(state: ApiServer) -> None:
    def make(kind: str, name: str, **fields: Any) -> None:
        metadata = {"name": name, **fields.pop("metadata", {})}
        state.put({"kind": kind, "metadata": metadata, **fields})

    make("Namespace", NAMESPACE)
    make("Secret", "qzoom-redis", data={"password": "c2VjcmV0"})
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    make("StorageClass", "standard", metadata={"annotations": default})
    make(
        "Deployment",
        "kuberay-operator",
        metadata={
            "namespace": "kuberay-system",
            "labels": {"app.kubernetes.io/name": "kuberay-operator"},
        },
        spec={"template": {"spec": {"containers": [{"image": "quay.io/kuberay/operator:v1.7.0"}]}}},
        status={"readyReplicas": 1},
    )


@pytest.fixture
def cluster(api: ApiServer) -> Iterator[Cluster]:
    """A client of the server."""
    del api
    with Cluster(NAMESPACE, timeout_s=5.0) as connected:
        yield connected


STAGES = ("encoder", "gate", "rpn", "llm", "gateway")


@pytest.fixture
def kuberay(api: ApiServer):
    """Write what KubeRay would: the status of the service, with some stages not healthy."""

    def write(name: str = "qzoom", *, pending: bool = False, **stages: str) -> None:
        deployments = {
            stage: {"status": stages.get(stage, "HEALTHY"), "message": stages.get(stage, "")}
            for stage in STAGES
        }
        part = {
            "rayClusterName": f"{name}-abcde",
            "applicationStatuses": {
                "qzoom": {"status": "RUNNING", "serveDeploymentStatuses": deployments}
            },
        }
        healthy = all(stage["status"] == "HEALTHY" for stage in deployments.values())
        ready = {"type": "Ready", "status": str(healthy), "reason": "", "message": ""}
        service = api.get("RayService", name)
        service["status"] = {
            "conditions": [ready],
            "numServeEndpoints": 1,
            "observedGeneration": service["metadata"]["generation"],
            "activeServiceStatus": {} if pending else part,
            "pendingServiceStatus": part if pending else {},
        }

    return write
