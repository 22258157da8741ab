"""The chart says what we mean: linted, rendered with every profile, refused where it is wrong."""

import re
import warnings
from ipaddress import IPv4Network, IPv6Network

import kubernetes_validate
import pytest
import yaml

from deploy.k8s.checks import check
from deploy.k8s.checks.ray import serve_config
from deploy.k8s.checks.wiring import needed_secrets
from deploy.k8s.manifest import find, kind_of, label_of, name_of, pod_templates, ray_service
from deploy.k8s.permissions import needed
from deploy.k8s.release import classify
from deploy.k8s.render import RenderError, render
from deploy.k8s.values import CHART
from deploy.local import ENVIRONMENT, GRPC_SERVICERS
from gateway.fetch.addresses import GLOBAL_UNICAST_V6, NOT_PUBLIC_V4, NOT_PUBLIC_V6
from gateway.live import LIVE
from qzoom.store.opening import check_address

KUBERNETES = "1.37.0"
OTHERS = ("ray.io", "monitoring.coreos.com", "gateway.networking.k8s.io")
"""Groups of custom resources; kubernetes-validate knows Kubernetes' own only."""


def test_helm_lint_has_nothing_to_say():
    helm = pytest.importorskip("helm_python")

    result = helm.lint(CHART)

    assert not result["errors"]
    assert [m["error"] for m in result["messages"]] == ["icon is recommended"]


def test_every_profile_passes_the_cross_checks(profile):
    assert check(profile) == []


def test_every_core_object_is_strictly_valid(profile):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for manifest in profile:
            if not manifest["apiVersion"].startswith(OTHERS):
                kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_no_profile_carries_a_secret(profile):
    assert find(profile, "Secret") == []
    assert "password:" not in yaml.safe_dump(find(profile, "ConfigMap"))


def test_gpu_profile_puts_each_stage_on_its_own_class_of_hardware(rendered):
    config = serve_config(ray_service(rendered("gpu")))
    groups = {
        d["name"]: d["ray_actor_options"]["label_selector"]["qzoom.io/group"]
        for d in config["applications"][0]["deployments"]
    }

    assert groups == {
        "gateway": "edge", "encoder": "encoder", "gate": "prefill", "rpn": "prefill", "llm": "llm",
    }  # fmt: skip


def test_gateway_pods_and_the_head_use_the_image_without_torch(rendered):
    images = {
        place.rpartition("/")[2]: template["spec"]["containers"][0]["image"]
        for place, template in pod_templates(ray_service(rendered("gpu")))
    }

    assert images["head"] == images["edge"] == "qzoom-gateway:0.1.0-ray2.60.0"
    assert images["llm"] == "qzoom-stage:0.1.0-ray2.60.0"


def test_the_application_is_scraped_once_per_cluster(rendered):
    """Every proxy answers with the sum over all gateways: a scrape of each would count double."""
    monitors = find(rendered("gpu"), "PodMonitor")
    scraping = [
        (monitor, endpoint)
        for monitor in monitors
        for endpoint in monitor["spec"]["podMetricsEndpoints"]
        if endpoint["port"] == "serve"
    ]

    assert len(scraping) == 1
    assert scraping[0][0]["spec"]["selector"]["matchLabels"]["qzoom.io/group"] == "head"


def test_budgets_leave_one_pod_to_a_drain_and_never_block_it(rendered):
    for manifests in (rendered("gpu"), rendered("gpu", "ha")):
        groups = {
            g["groupName"]: g["minReplicas"]
            for g in ray_service(manifests)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        }
        budgets = {
            name_of(b).removeprefix("qzoom-"): b["spec"]["minAvailable"]
            for b in find(manifests, "PodDisruptionBudget")
            if "minAvailable" in b["spec"]
        }
        assert budgets == {name: least - 1 for name, least in groups.items() if least > 1}


def test_deny_all_covers_every_pod_and_only_the_edge_is_open_to_clients(rendered):
    manifests = rendered("gpu", "ha")
    policies = {name_of(p): p["spec"] for p in find(manifests, "NetworkPolicy")}
    everything = policies["qzoom-deny-all"]["podSelector"]["matchLabels"]

    for manifest in manifests:
        for place, template in pod_templates(manifest):
            assert everything.items() <= template["metadata"]["labels"].items(), place
    from_clients = [
        rule["ports"]
        for rule in policies["qzoom-ray"]["ingress"]
        for peer in rule["from"]
        if "istio-ingress" in str(peer)
    ]
    assert [[p["port"] for p in ports] for ports in from_clients] == [[8000, 9000]]


def test_gateways_reach_out_for_remote_pictures_to_public_addresses_alone(rendered):
    assert "remote-pictures" not in str(rendered("gpu"))
    settings = (
        "stages.gateway.settings.remote_images=images.example.com:8443",
        "networkPolicy.remotePicturePorts=[8443]",
    )
    manifests = rendered("gpu", settings=settings)
    policies = {name_of(p): p["spec"] for p in find(manifests, "NetworkPolicy")}
    policy = policies["qzoom-remote-pictures"]
    assert policy["podSelector"]["matchLabels"]["qzoom.io/group"] == "edge"
    [rule] = policy["egress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8443}]
    v4, v6 = (peer["ipBlock"] for peer in rule["to"])
    assert set(map(IPv4Network, v4["except"])) == set(NOT_PUBLIC_V4)
    assert IPv6Network(v6["cidr"]) == GLOBAL_UNICAST_V6
    assert set(map(IPv6Network, v6["except"])) == set(NOT_PUBLIC_V6)


def test_metrics_and_traces_are_not_published(rendered):
    settings = ("ingress.enabled=true", "ingress.host=a.example", "ingress.tlsSecret=tls")
    ingress = find(rendered("local", settings=settings), "Ingress")[0]
    paths = [p["path"] for p in ingress["spec"]["rules"][0]["http"]["paths"]]

    assert paths == ["/v1/chat/completions", "/v1/models", "/healthz"]
    route = find(rendered("gpu", "ha"), "HTTPRoute")[0]
    assert [m["path"]["value"] for m in route["spec"]["rules"][0]["matches"]] == paths


def test_the_deployer_role_allows_exactly_what_deploy_asks_for(rendered):
    settings = (
        "rbac.deployer.enabled=true",
        "rbac.deployer.subjects=[{kind: User, name: ci, apiGroup: rbac.authorization.k8s.io}]",
        "ingress.enabled=true", "ingress.host=a.example", "ingress.tlsSecret=tls",
    )  # fmt: skip
    manifests = rendered("gpu", "ha", settings=settings)
    manifests += find(rendered("gpu"), "StatefulSet")
    allowed = {
        (verb, group, resource)
        for rule in find(manifests, "Role")[0]["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    # The Role itself is applied by an administrator: nobody may grant what they do not hold.
    applied = [m for m in manifests if kind_of(m) not in ("Role", "RoleBinding")]

    assert {(p.verb, p.group, p.resource) for p in needed(applied)} == allowed


def test_settings_that_change_in_place_are_no_arguments_of_the_application(rendered):
    """Serve starts every replica again when an argument of the application changes."""
    before, after = (
        ray_service(rendered("gpu", settings=settings))
        for settings in (
            ("stages.gateway.settings={max_pixels: 16000000}",),
            (
                "stages.gateway.settings={max_pixels: 16000000, tau_gate: 0.6, concurrency: 8}",
                "stages.llm.replicas.max=12",
            ),
        )
    )
    [application] = serve_config(after)["applications"]
    gateway = next(d for d in application["deployments"] if d["name"] == "gateway")

    assert gateway["user_config"] == {"tau_gate": 0.6, "concurrency": 8, "admit_requests": 12 * 64}
    assert application["args"]["gateway"] == {"cpus": 2, "max_pixels": 16_000_000}
    assert classify(before, after) == "in place"


def test_the_chart_knows_which_settings_change_in_place():
    text = (CHART / "templates" / "_serveconfig.tpl").read_text()
    found = re.search(r'define "qzoom.liveSettings" -}}(.*?){{', text, re.DOTALL)
    assert found is not None
    assert set(found[1].split()) == LIVE


def test_needed_secrets_are_found_with_their_keys(rendered):
    assert needed_secrets(rendered("gpu", "ha")) == {
        "qzoom-redis": {"password"},
        "qzoom-tls": {"tls.crt", "tls.key"},
    }


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("typo=1", "typo"),
        ("model.device=tpu", "device"),
        ("stages.gate.replicas.min=-1", "min"),
        ("stages.gate.replicas.max=0", "max"),
        ("stages.gate.settings.replicas=3", "replicas"),
        ("stages.verifier={}", "verifier"),
        ('redis.existingSecret=""', "existingSecret"),
        ("head.sharedMemory=2 GB", "sharedMemory"),
        ("edge.grpcPort=70000", "grpcPort"),
        ("security.runAsUser=0", "runAsUser"),
        ("modelCache.fetch.revision=main", "revision"),
        ("modelCache.fetch.endpoint=http://hub.example", "endpoint"),
        ("groups.edge.resources.requests.cpu=lots", "cpu"),
        ("stages.llm.group=nowhere", "nowhere"),
        ("stages.llm.replicas={min: 4, max: 2}", "above max"),
        ("stages.llm.gpus=1", "model.device is cpu"),
        ("stages.rpn.replicas.min=0", "every stage has a replica that answers"),
        ("groups.edge.image=gateway", "no torch"),
        ("stages.gateway.settings.remote_images=public", "lets no gateway out"),
        ("groups.edge.replicas.min=9", "above max"),
        ("collector.enabled=true", "endpoint"),
        ("modelCache.enabled=true", "repository"),
        ("ray.upgrade.type=NewClusterWithIncrementalUpgrade", "gatewayClassName"),
        ("ray.upgrade.incremental.stepSizePercent=50", "maxSurgePercent"),
        ("ingress.enabled=true", "never served without TLS"),
        ("edge.terminationGracePeriodSeconds=60", "requests are cut"),
        ("redis.sentinel.set=main", "host:port of the Sentinels"),
        ("redis.sentinel.set=a/b", "set"),
    ],
)
def test_wrong_values_are_refused_by_name(rendered, setting: str, message: str):
    with pytest.raises(RenderError, match=message):
        rendered(settings=(setting,))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "stages.llm.replicas.max=lots",
            "the chart takes no such values:\n  stages.llm.replicas.max: got string, want integer",
        ),
        (
            "typo=1",
            "the chart takes no such values:\n  values: additional properties 'typo' not allowed",
        ),
        (
            "stages.llm.replicas={min: 4, max: 2}",
            "stages.llm.replicas.min 4 is above max 2",
        ),
    ],
)
def test_a_refusal_is_a_line_for_the_operator(rendered, setting: str, message: str):
    with pytest.raises(RenderError) as refused:
        rendered(settings=(setting,))
    assert str(refused.value) == message


def test_objects_are_ordered_so_that_pods_find_what_they_need(profile):
    kinds = [kind_of(m) for m in profile]
    for before in ("ServiceAccount", "NetworkPolicy", "ConfigMap", "Service"):
        if before in kinds:
            last = max(i for i, kind in enumerate(kinds) if kind == before)
            assert last < kinds.index("RayService"), before


def test_names_follow_the_release():
    labels = {label_of(m) for m in render({}, "answers", "elsewhere")}

    assert {"RayService/answers-qzoom", "Service/answers-qzoom"} <= labels


def test_the_cluster_is_set_up_as_the_local_system_is(profile):
    """There is no second code path for production."""
    service = ray_service(profile)
    # What else the local system sets keeps its Ray on this machine.
    wanted = {name: value for name, value in ENVIRONMENT.items() if name.startswith("RAY_SERVE_")}

    assert serve_config(service)["grpc_options"]["grpc_servicer_functions"] == list(GRPC_SERVICERS)
    for place, template in pod_templates(service):
        variables = {
            variable["name"]: variable.get("value")
            for variable in template["spec"]["containers"][0]["env"]
        }
        assert wanted.items() <= variables.items(), place


def test_a_missing_engine_is_explained(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "helm_python", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RenderError, match="helm-python-sdk"):
        render({}, "qzoom", "qzoom")


def _variables(manifests):
    service = next(m for m in manifests if kind_of(m) == "RayService")
    cluster = service["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        for container in group["template"]["spec"]["containers"]:
            yield {item["name"]: item for item in container["env"]}


def test_every_ray_pod_reaches_the_store_with_the_password_from_the_secret(rendered):
    manifests = rendered("gpu")
    for variables in _variables(manifests):
        assert variables["QZOOM_GATEWAY_STORE"]["value"] == "redis://qzoom-redis:6379/0"
        assert variables["QZOOM_GATEWAY_STORE_NAMESPACE"]["value"] == "qzoom"
        secret = variables["QZOOM_STORE_PASSWORD"]["valueFrom"]["secretKeyRef"]
        assert secret == {"name": "qzoom-redis", "key": "password"}
        check_address(variables["QZOOM_GATEWAY_STORE"]["value"])
    policies = {p["metadata"]["name"]: p["spec"] for p in find(manifests, "NetworkPolicy")}
    redis = {"app.kubernetes.io/component": "redis"}
    assert any(
        peer["podSelector"]["matchLabels"].items() >= redis.items()
        for rule in policies["qzoom-ray"]["egress"]
        for peer in rule["to"]
        if "matchLabels" in peer.get("podSelector", {})
    )
    [source] = policies["qzoom-redis"]["ingress"][0]["from"]
    assert source["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "ray"


def test_ray_and_the_gateways_follow_the_same_sentinels(rendered):
    settings = ("redis.externalAddress=sentinels.databases.svc:26379", "redis.sentinel.set=main")
    manifests = rendered("gpu", settings=settings)

    assert check(manifests) == []
    for variables in _variables(manifests):
        address = variables["QZOOM_GATEWAY_STORE"]["value"]
        assert address == "redis+sentinel://sentinels.databases.svc:26379/main"
        check_address(address)
        secret = variables["QZOOM_STORE_SENTINEL_PASSWORD"]["valueFrom"]["secretKeyRef"]
        assert secret == {"name": "qzoom-redis", "key": "password"}
    cluster = ray_service(manifests)["spec"]["rayClusterConfig"]
    ray = cluster["gcsFaultToleranceOptions"]["redisAddress"]
    assert ray == "sentinels.databases.svc:26379"
    policies = {name_of(p): p["spec"] for p in find(manifests, "NetworkPolicy")}
    ports = [[p["port"] for p in rule["ports"]] for rule in policies["qzoom-ray"]["egress"]
             if "ports" in rule]  # fmt: skip
    assert [26379, 6379] in ports


def test_without_redis_each_pod_has_a_store_of_its_own(rendered):
    for variables in _variables(rendered("local", settings=("redis.enabled=false",))):
        assert "QZOOM_GATEWAY_STORE" not in variables
        assert variables["HOME"]["value"] == "/tmp"
