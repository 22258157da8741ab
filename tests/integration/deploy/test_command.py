"""`qzoom deploy` as a user types it, against a server on a socket."""

import re

import pytest
import yaml
from typer.testing import CliRunner

from cli.console import Failure
from cli.deploy import app


@pytest.fixture
def qzoom():
    runner = CliRunner()

    def run(*words: str):
        return runner.invoke(app, list(words))

    return run


def test_render_writes_yaml_that_a_cluster_takes(qzoom):
    done = qzoom("render", "-f", "local", "--set", "stages.llm.replicas.max=5")

    assert done.exit_code == 0, done.output
    objects = list(yaml.safe_load_all(done.stdout))
    service = next(o for o in objects if o["kind"] == "RayService")
    assert "max_replicas: 5" in service["spec"]["serveConfigV2"]


def test_render_refuses_what_cannot_work(qzoom):
    done = qzoom("render", "--set", "groups.edge.sharedMemory=7Gi")

    assert isinstance(done.exception, Failure)
    assert "leaves too little" in done.exception.message


def test_install_upgrade_look_and_go_back(api, kuberay, qzoom):
    assert qzoom("doctor", "-f", "local").exit_code == 0
    done = qzoom("apply", "-f", "local", "--no-wait")
    assert done.exit_code == 0, done.output
    assert qzoom("status").exit_code == 1, "KubeRay has not begun"
    kuberay()
    assert "ready" in qzoom("status").stdout

    limits = ("--set", "stages.llm.replicas.max=5")
    done = qzoom("rollout", "-f", "local", *limits, "--timeout", "0.1")
    assert isinstance(done.exception, Failure), "the status is of what ran before"
    assert "qzoom deploy rollback --name qzoom --namespace qzoom" in done.exception.message
    assert "in place" in done.stderr
    assert "max_replicas: 5" in api.get("RayService", "qzoom")["spec"]["serveConfigV2"]

    done = qzoom("rollback", "--timeout", "0.1")
    assert isinstance(done.exception, Failure)
    assert "max_replicas: 5" not in api.get("RayService", "qzoom")["spec"]["serveConfigV2"]
    kuberay()
    assert qzoom("wait", "--timeout", "5").exit_code == 0
    rows = re.findall(r"^ ?(\d+) +2026-", qzoom("history").stdout, flags=re.MULTILINE)
    assert rows == ["1", "2", "3"]


def test_rollout_of_nothing_says_how_to_install(api, qzoom):
    del api
    done = qzoom("rollout", "-f", "local")

    assert isinstance(done.exception, Failure)
    assert "qzoom deploy apply" in done.exception.message


def test_doctor_ends_with_1_where_something_is_missing(api, qzoom):
    del api.kinds["ray.io/v1"]

    done = qzoom("doctor", "-f", "local")

    assert done.exit_code == 1
    assert "helm install kuberay-operator" in " ".join(done.stdout.split())
