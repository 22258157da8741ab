"""Each cross-check finds what it is for, in objects that a schema takes."""

from collections.abc import Callable

import pytest
import yaml

from deploy.k8s.checks import check
from deploy.k8s.checks.quantity import parse_quantity
from deploy.k8s.manifest import Manifest, find, ray_service

Objects = list[Manifest]


def _cluster(objects: Objects) -> Manifest:
    cluster: Manifest = ray_service(objects)["spec"]["rayClusterConfig"]
    return cluster


def _worker(objects: Objects) -> Manifest:
    template: Manifest = _cluster(objects)["workerGroupSpecs"][0]["template"]
    return template


def _edit_serve(objects: Objects, edit: Callable[[Manifest], None]) -> None:
    spec = ray_service(objects)["spec"]
    config = yaml.safe_load(spec["serveConfigV2"])
    edit(config["applications"][0])
    spec["serveConfigV2"] = yaml.safe_dump(config)


def long_name(objects: Objects) -> None:
    ray_service(objects)["metadata"]["name"] = "q" * 48


def upper_case(objects: Objects) -> None:
    find(objects, "ConfigMap")[0]["metadata"]["name"] = "otel_BAD"


def double(objects: Objects) -> None:
    objects.append(find(objects, "Service")[0])


def other_namespace(objects: Objects) -> None:
    find(objects, "Service")[0]["metadata"]["namespace"] = "default"


def label(objects: Objects) -> None:
    find(objects, "Service")[0]["metadata"]["labels"]["version"] = "1+2"


def root_user(objects: Objects) -> None:
    del _worker(objects)["spec"]["securityContext"]["runAsNonRoot"]


def privileges(objects: Objects) -> None:
    _worker(objects)["spec"]["containers"][0]["securityContext"]["capabilities"] = {}


def _security(objects: Objects) -> Manifest:
    security: Manifest = _worker(objects)["spec"]["containers"][0]["securityContext"]
    return security


def host_path(objects: Objects) -> None:
    _worker(objects)["spec"]["volumes"][0] = {"name": "tmp", "hostPath": {"path": "/tmp"}}


def host_network(objects: Objects) -> None:
    _worker(objects)["spec"]["hostNetwork"] = True


def host_port(objects: Objects) -> None:
    _worker(objects)["spec"]["containers"][0]["ports"][0]["hostPort"] = 8000


def no_seccomp(objects: Objects) -> None:
    del _worker(objects)["spec"]["securityContext"]["seccompProfile"]


def own_seccomp(objects: Objects) -> None:
    _security(objects)["seccompProfile"] = {"type": "Unconfined"}


def own_root(objects: Objects) -> None:
    _security(objects)["runAsUser"] = 0


def privileged(objects: Objects) -> None:
    _security(objects)["privileged"] = True


def escalation(objects: Objects) -> None:
    del _security(objects)["allowPrivilegeEscalation"]


def more_rights(objects: Objects) -> None:
    _security(objects)["capabilities"]["add"] = ["SYS_ADMIN"]


def autoscaler(objects: Objects) -> None:
    del _cluster(objects)["autoscalerOptions"]["securityContext"]["allowPrivilegeEscalation"]


def service_links(objects: Objects) -> None:
    del _worker(objects)["spec"]["enableServiceLinks"]


def latest(objects: Objects) -> None:
    template = find(objects, "StatefulSet")[0]["spec"]["template"]
    template["spec"]["containers"][0]["image"] = "redis"


def no_memory(objects: Objects) -> None:
    _worker(objects)["spec"]["containers"][0]["resources"]["requests"].pop("memory")


def above_limit(objects: Objects) -> None:
    _worker(objects)["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "5"


def ray_version(objects: Objects) -> None:
    _cluster(objects)["rayVersion"] = "2.59.0"


def ray_image(objects: Objects) -> None:
    _worker(objects)["spec"]["containers"][0]["image"] = "qzoom-stage:0.1.0-ray2.58.0"


def object_store(objects: Objects) -> None:
    _cluster(objects)["workerGroupSpecs"][0]["rayStartParams"]["object-store-memory"] = str(2**33)


def shared_memory(objects: Objects) -> None:
    volumes = _worker(objects)["spec"]["volumes"]
    next(v for v in volumes if v["name"] == "shared-mem")["emptyDir"]["sizeLimit"] = "6Gi"


def import_path(objects: Objects) -> None:
    def edit(application: Manifest) -> None:
        application["import_path"] = "deploy.app:create"

    _edit_serve(objects, edit)


def arguments(objects: Objects) -> None:
    def edit(application: Manifest) -> None:
        application["args"]["gate"]["max_batch_tokenz"] = 3

    _edit_serve(objects, edit)


def live_setting(objects: Objects) -> None:
    def edit(application: Manifest) -> None:
        gateway = next(d for d in application["deployments"] if d["name"] == "gateway")
        gateway["user_config"]["max_tokens"] = 100

    _edit_serve(objects, edit)


def deployment(objects: Objects) -> None:
    def edit(application: Manifest) -> None:
        application["deployments"][0]["name"] = "decoder"

    _edit_serve(objects, edit)


def too_many_cpus(objects: Objects) -> None:
    def edit(application: Manifest) -> None:
        application["deployments"][0]["ray_actor_options"]["num_cpus"] = 64

    _edit_serve(objects, edit)


def probe_port(objects: Objects) -> None:
    probe = _worker(objects)["spec"]["containers"][0]["readinessProbe"]
    probe["httpGet"]["port"] = "http"


def service_port(objects: Objects) -> None:
    find(objects, "Service")[0]["spec"]["ports"][0]["targetPort"] = "http"


def selector(objects: Objects) -> None:
    find(objects, "Service")[0]["spec"]["selector"]["app.kubernetes.io/component"] = "rai"


def policy_peer(objects: Objects) -> None:
    policy = next(p for p in find(objects, "NetworkPolicy") if "redis" in p["metadata"]["name"])
    labels = policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    labels["qzoom.io/group"] = "haed"


def account(objects: Objects) -> None:
    _worker(objects)["spec"]["serviceAccountName"] = "default"


def config_map(objects: Objects) -> None:
    objects.remove(next(m for m in find(objects, "ConfigMap") if m["data"].get("redis.conf")))


def mount(objects: Objects) -> None:
    _worker(objects)["spec"]["volumes"].pop()


def backend(objects: Objects) -> None:
    rule = find(objects, "Ingress")[0]["spec"]["rules"][0]
    rule["http"]["paths"][0]["backend"]["service"]["name"] = "gateway"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (long_name, "48 characters"),
        (upper_case, "no DNS name"),
        (double, "2 times"),
        (other_namespace, "several namespaces"),
        (label, "invalid value"),
        (root_user, "user other than root"),
        (privileges, "capabilities"),
        (host_path, "volume tmp is a hostPath"),
        (host_network, "hostNetwork must not be used"),
        (host_port, "must not be one of the node"),
        (no_seccomp, "seccompProfile"),
        (own_seccomp, "seccompProfile"),
        (own_root, "must not run as root"),
        (privileged, "must not be privileged"),
        (escalation, "allowPrivilegeEscalation"),
        (more_rights, "all capabilities"),
        (autoscaler, "head/autoscaler: allowPrivilegeEscalation"),
        (service_links, "enableServiceLinks"),
        (latest, "names no version"),
        (no_memory, "are needed"),
        (above_limit, "above its limit"),
        (ray_version, "pinned to ray"),
        (ray_image, "is not rayVersion"),
        (object_store, "exceeds the shared memory"),
        (shared_memory, "leaves too little"),
        (import_path, "does not build"),
        (arguments, "does not build"),
        (deployment, "the configuration names"),
        (live_setting, "user_config of the gateway: default_max_tokens is 256, above max_tokens"),
        (too_many_cpus, "asks 64 cpu"),
        (probe_port, "readinessProbe"),
        (service_port, "has no port http"),
        (selector, "no pod has the labels"),
        (policy_peer, "no pod has the labels"),
        (account, "ServiceAccount/default"),
        (config_map, "ConfigMap/qzoom-redis"),
        (mount, "no volume"),
        (backend, "no Service gateway"),
    ],
)
def test_damage_is_found_and_named(rendered, damage: Callable[[Objects], None], message: str):
    settings = ("ingress.enabled=true", "ingress.host=a.example", "ingress.tlsSecret=tls")
    objects = rendered(settings=settings)

    damage(objects)

    assert message in "\n".join(check(objects))


@pytest.mark.parametrize(
    ("text", "units"), [("500m", "0.5"), ("2", "2"), (1.5, "1.5"), ("8Gi", 8 * 2**30), ("3k", 3000)]
)
def test_quantities_are_read_exactly(text, units):
    assert parse_quantity(text) == parse_quantity(units)


@pytest.mark.parametrize("text", ["5Gigs", "-1", "", "1 Gi", None])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError, match="quantity"):
        parse_quantity(text)
