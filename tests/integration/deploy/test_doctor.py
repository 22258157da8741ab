"""What `doctor` finds missing, and the remedies that it names."""

import pytest

from deploy.k8s.doctor import examine
from deploy.k8s.render import render
from deploy.k8s.values import load_values


@pytest.fixture(scope="module")
def gpu():
    monitoring = [f"monitoring.{part}.enabled=false" for part in ("podMonitors", "rules")]
    return render(load_values(["gpu"], monitoring), "qzoom", "qzoom")


def _gpu_node(name: str, product: str, count: int) -> dict[str, object]:
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.product": product}},
        "status": {"allocatable": {"nvidia.com/gpu": str(count)}},
    }


@pytest.fixture
def nodes(api):
    products = ("NVIDIA-L4", "NVIDIA-L40S", "NVIDIA-H100-80GB-HBM3")
    for number, product in enumerate(products):
        api.put(_gpu_node(f"n{number}", product, 1))


def _missing(findings):
    return {f.what: f.remedy for f in findings if f.verdict == "missing"}


@pytest.mark.usefixtures("nodes")
def test_a_cluster_with_everything_has_nothing_missing(cluster, gpu):
    findings = examine(cluster, gpu)

    assert _missing(findings) == {}
    assert {"unknown"} & {f.verdict for f in findings} == set()
    assert "KubeRay v1.7.0 in kuberay-system" in [f.what for f in findings]


@pytest.mark.usefixtures("nodes")
def test_what_is_missing_is_named_with_a_remedy(api, cluster, gpu):
    api.version = "v1.27.1"
    del api.kinds["ray.io/v1"]
    del api.objects["Secret", "qzoom-redis"]
    del api.objects["StorageClass", "standard"]
    del api.objects["Namespace", "qzoom"]
    api.put(_gpu_node("n2", "NVIDIA-A100", 8))
    api.forbidden.add(("patch", "services"))

    missing = _missing(examine(cluster, gpu))

    text = "\n".join(missing)
    for what in (
        "Kubernetes v1.27.1",
        "kind RayService",
        "namespace qzoom",
        "secret qzoom-redis: no password",
        "storage class (default) for PersistentVolumeClaim/qzoom-models",
        "permissions: patch services",
        "group llm: 0 GPUs on 0 nodes, 1 at least",
    ):
        assert what in text
    assert all(missing.values()), "every gap has a remedy"
    assert "--from-literal=password=" in missing["secret qzoom-redis: no password"]


@pytest.mark.usefixtures("nodes")
def test_an_old_or_crippled_kuberay_is_noticed(api, cluster, gpu):
    operator = api.get("Deployment", "kuberay-operator")
    container = operator["spec"]["template"]["spec"]["containers"][0]
    container["image"] = "quay.io/kuberay/operator:v1.4.2"
    container["args"] = ["--feature-gates=RayServiceIncrementalUpgrade=false"]

    missing = "\n".join(_missing(examine(cluster, gpu)))

    assert "KubeRay v1.4.2" in missing
    assert "RayServiceIncrementalUpgrade is off" in missing


def test_what_may_not_be_looked_at_is_unknown_not_missing(api, cluster, gpu):
    api.forbidden |= {("list", "nodes"), ("get", "namespaces"), ("list", "deployments")}

    findings = examine(cluster, gpu)

    unknown = [f.what for f in findings if f.verdict == "unknown"]
    assert len(unknown) == 3
    assert not any("node" in what.lower() for what in _missing(findings))
