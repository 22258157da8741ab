"""Apply, watch, roll out and back, over a real connection."""

import copy
import threading

import pytest
import yaml

from deploy.k8s.checks.ray import serve_config
from deploy.k8s.cluster import Cluster, ClusterError, ConflictError
from deploy.k8s.history import KEEP, read_history, record
from deploy.k8s.manifest import label_of, ray_service
from deploy.k8s.release import NotReadyError, apply, classify, rollback, wait
from deploy.k8s.render import render
from deploy.k8s.status import fetch_status
from deploy.k8s.values import load_values


@pytest.fixture(scope="module")
def _local():
    return render(load_values(["local"]), "qzoom", "qzoom")


@pytest.fixture
def manifests(_local):
    return copy.deepcopy(_local)


def test_apply_brings_every_object_in_order_and_remembers_them(api, cluster, manifests):
    seen: list[str] = []
    applied = apply(cluster, "qzoom", manifests, "first", on_object=seen.append)

    assert seen == [label_of(m) for m in manifests]
    assert [label for label in api.applied if "Revision" not in label] == seen
    assert (applied.revision, applied.change, applied.deleted) == (1, "install", ())
    [revision] = read_history(cluster, "qzoom")
    assert revision.manifests == manifests
    assert revision.note == "first"


def test_nothing_is_changed_if_one_object_is_refused(api, cluster, manifests):
    api.refused["RayService/qzoom"] = "spec.rayClusterConfig: Required value"

    with pytest.raises(ClusterError, match=r"RayService/qzoom: spec\.rayClusterConfig"):
        apply(cluster, "qzoom", manifests, "first")

    assert api.applied == []


def test_fields_of_others_are_taken_over_by_force_only(api, cluster, manifests):
    api.foreign_owner = "Service/qzoom"

    with pytest.raises(ConflictError, match="kubectl"):
        apply(cluster, "qzoom", manifests, "first")
    assert api.applied == []
    assert apply(cluster, "qzoom", manifests, "first", force=True).revision == 1


def test_what_is_no_longer_wanted_is_deleted_but_never_the_weights(api, cluster, manifests):
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "qzoom-models", "namespace": "qzoom"},
        "spec": {},
    }
    apply(cluster, "qzoom", [*manifests, claim], "with a model cache")
    fewer = [m for m in manifests if label_of(m) != "NetworkPolicy/qzoom-dns"]

    applied = apply(cluster, "qzoom", fewer, "less")

    assert applied.deleted == ("NetworkPolicy/qzoom-dns",)
    assert "qzoom-dns" not in api.names("NetworkPolicy")
    assert api.names("PersistentVolumeClaim") == ["qzoom-models"]


def test_rollback_applies_the_objects_of_the_revision_before(api, cluster, manifests):
    apply(cluster, "qzoom", manifests, "first")
    second = copy.deepcopy(manifests)
    cluster_spec = ray_service(second)["spec"]["rayClusterConfig"]
    cluster_spec["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] = "broken"
    assert apply(cluster, "qzoom", second, "second").change == "new cluster"

    applied = rollback(cluster, "qzoom")

    assert applied.revision == 3
    assert api.get("RayService", "qzoom")["spec"] == ray_service(manifests)["spec"]
    assert read_history(cluster, "qzoom")[-1].note == "rollback to revision 1"
    with pytest.raises(ClusterError, match="no revision 9; it has 1, 2, 3"):
        rollback(cluster, "qzoom", 9)


def test_history_is_bounded(api, cluster, manifests):
    for number in range(KEEP + 3):
        record(cluster, "qzoom", manifests[:1], str(number))

    assert [r.number for r in read_history(cluster, "qzoom")] == list(range(4, KEEP + 4))
    assert len(api.names("ControllerRevision")) == KEEP


def test_an_apply_says_what_it_means_for_what_runs(manifests):
    service = ray_service(manifests)
    assert classify(None, service) == "install"
    live = copy.deepcopy(service)
    live["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["scaleStrategy"] = {
        "added": "by server"
    }
    assert classify(live, service) == "nothing"
    live["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["replicas"] = 7
    assert classify(live, service) == "nothing"
    config = serve_config(live)
    [application] = config["applications"]
    application["deployments"][0]["autoscaling_config"]["max_replicas"] = 9
    application["deployments"][2]["user_config"] = {"tau_gate": 0.7}
    live["spec"]["serveConfigV2"] = yaml.safe_dump(config)
    assert classify(live, service) == "in place"
    application["args"]["dtype"] = "bfloat16"
    live["spec"]["serveConfigV2"] = yaml.safe_dump(config)
    assert classify(live, service) == "new replicas"
    live["spec"]["rayClusterConfig"]["rayVersion"] = "2.58.0"
    assert classify(live, service) == "new cluster"


def test_wait_ends_when_all_stages_are_healthy(cluster, manifests, kuberay):
    apply(cluster, "qzoom", manifests, "first")
    kuberay(pending=True, llm="UPDATING")
    lines: list[str] = []
    switch = threading.Timer(0.3, kuberay)
    switch.start()

    status = wait(
        cluster, "qzoom", 10, lambda s: lines.append("" if s.done else s.blocker()), poll_s=0.05
    )

    switch.join()
    assert status.done
    assert lines[0] == "stage llm is UPDATING: UPDATING"


def test_wait_names_the_stage_that_hangs(cluster, manifests, kuberay):
    apply(cluster, "qzoom", manifests, "first")
    kuberay(gate="UNHEALTHY", gateway="UPDATING")

    with pytest.raises(NotReadyError, match=r"after 0\.2 s: stage gate is UNHEALTHY"):
        wait(cluster, "qzoom", 0.2, poll_s=0.05)


def test_wait_is_not_fooled_by_the_status_of_what_ran_before(api, cluster, manifests, kuberay):
    apply(cluster, "qzoom", manifests, "first")
    kuberay()
    second = copy.deepcopy(manifests)
    ray_service(second)["spec"]["serveConfigV2"] += "\n"
    apply(cluster, "qzoom", second, "second")

    assert api.get("RayService", "qzoom")["metadata"]["generation"] == 2
    assert not fetch_status(cluster, "qzoom").done


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                             "message": "0/3 nodes: Insufficient nvidia.com/gpu"}]},
            "pod w1 of group llm: Unschedulable: 0/3 nodes: Insufficient nvidia.com/gpu",
        ),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
            "pod w1 of group llm: ImagePullBackOff",
        ),
        (
            {"initContainerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff",
                                                              "message": "back-off 5m"}}}]},
            "pod w1 of group llm: CrashLoopBackOff: back-off 5m",
        ),
    ],
)  # fmt: skip
def test_a_pod_that_cannot_start_is_named_before_the_stage(
    api, cluster, manifests, kuberay, status, message
):
    apply(cluster, "qzoom", manifests, "first")
    kuberay(llm="UPDATING")
    labels = {
        "app.kubernetes.io/instance": "qzoom",
        "app.kubernetes.io/component": "ray",
        "qzoom.io/group": "llm",
    }
    api.put({"kind": "Pod", "metadata": {"name": "w1", "labels": labels}, "status": status})

    assert fetch_status(cluster, "qzoom").blocker() == message


def test_a_server_that_does_not_answer_is_one_clear_error(api, monkeypatch):
    monkeypatch.setattr(api, "answer", lambda *_: (500, {"message": "etcd is down"}))
    with pytest.raises(ClusterError, match="etcd is down"):
        Cluster("qzoom", timeout_s=2.0).server_version()


def test_a_service_that_is_not_there_is_named(cluster):
    with pytest.raises(ClusterError, match="no RayService qzoom in namespace qzoom"):
        fetch_status(cluster, "qzoom")
