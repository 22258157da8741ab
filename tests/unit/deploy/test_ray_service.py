"""KubeRay's own rules on the rendered RayService, by the project's offline validator."""

import importlib.util
import sys
from pathlib import Path

import pytest

from deploy.k8s.manifest import ray_service

SHARED = Path(__file__).parents[4] / "shared"
TOOL = SHARED / "tools" / "validate_cr.py"
SCHEMAS = SHARED / "schemas"

pytestmark = pytest.mark.skipif(
    not TOOL.is_file(), reason="KubeRay's schemas and their validator are not in ../shared"
)


@pytest.fixture(scope="module")
def validator():
    spec = importlib.util.spec_from_file_location("validate_cr", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # The folder of the tool may be read-only, and it is not ours.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def _problems(validator, service):
    stats: dict[str, int] = {}
    problems = validator.check_doc(service, SCHEMAS, set(), True, stats)
    assert not stats.get("serve_skipped")
    return problems


def test_kuberay_takes_the_ray_service_of_every_profile(validator, profile):
    assert _problems(validator, ray_service(profile)) == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("spec", "rayClusterConfig", "headGroupSpec", "rayStartParam"), {}, "rayStartParam"),
        (("spec", "rayClusterConfig", "networkPolicy"), {"mode": "DenyAll"}, "feature gate"),
        (("spec", "upgradeStrategy", "type"), "BlueGreen", "unknown"),
        (("spec", "rayClusterConfig", "enableInTreeAutoscaling"), False, "autoscaler"),
        (("spec", "serveConfigV2"), "applications: [{name: a}]", "import_path"),
    ],
)
def test_the_validator_would_notice(validator, rendered, path, value, message):
    service = ray_service(rendered("gpu", "ha"))
    node = service
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value

    assert message in str(_problems(validator, service))
