"""The image: clean to hadolint, locked, and with what the chart asks of it."""

import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.utils import canonicalize_name

from deploy.image.lock import closure
from qzoom.builtin import builtin_model

ROOT = Path(__file__).parents[3]
IMAGE = ROOT / "deploy" / "image"
DOCKERFILE = (IMAGE / "Dockerfile").read_text()


def _locked(name: str) -> dict[str, str]:
    lines = (IMAGE / f"{name}.lock").read_text().splitlines()
    pattern = re.compile(r"(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}")
    found = [pattern.fullmatch(line) for line in lines if not line.startswith("#")]
    assert all(found), "every line is a version with a hash"
    return {match[1]: match[2] for match in found if match}


@pytest.mark.skipif(shutil.which("hadolint", path=ROOT / ".venv/bin") is None, reason="no hadolint")
def test_hadolint_has_nothing_to_say():
    hadolint = shutil.which("hadolint", path=ROOT / ".venv/bin")
    done = subprocess.run(
        [str(hadolint), "-c", str(IMAGE / ".hadolint.yaml"), str(IMAGE / "Dockerfile")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("name", "requirement"),
    [("gateway", "qzoom[gateway,serve]"), ("stage", "qzoom[gateway,serve,model]")],
)
def test_the_locks_are_what_the_extras_bring_in_the_tested_versions(name, requirement):
    locked = _locked("gateway") | (_locked("stage") if name == "stage" else {})

    assert set(locked) == closure(requirement), "run python -m deploy.image.lock"
    pins = dict(
        line.split("==")
        for line in (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    pins = {str(canonicalize_name(key)): value for key, value in pins.items()}
    assert {n: v for n, v in locked.items() if pins.get(n, v) != v} == {}


def test_the_gateway_has_ray_and_no_torch():
    locked = _locked("gateway")

    assert locked["ray"] == version("ray")
    assert not {"torch", "transformers", "numpy-quaternion"} & locked.keys()


def test_torch_is_the_version_that_was_tested():
    assert f"ARG TORCH_VERSION={version('torch').partition('+')[0]}" in DOCKERFILE


def test_every_package_of_the_wheel_is_copied_into_the_build():
    pyproject = (ROOT / "pyproject.toml").read_text()
    packages = re.search(r"packages = \[([^\]]+)\]", pyproject)
    assert packages
    for package in re.findall(r'"(\w+)"', packages[1]):
        assert f"COPY {package} /src/{package}" in DOCKERFILE
        assert f"!{package}\n" in (IMAGE / "Dockerfile.dockerignore").read_text()


def test_the_model_of_the_default_values_is_in_the_stage_image():
    values = yaml.safe_load((ROOT / "deploy/helm/qzoom/values.yaml").read_text())
    default = re.search(r"^FROM scratch AS model\nCOPY (\S+) /$", DOCKERFILE, re.MULTILINE)

    assert default is not None
    assert ROOT / default[1] == builtin_model()
    assert f"COPY --from=model / {values['model']['path']}\n" in DOCKERFILE


def test_both_images_run_as_the_user_that_the_chart_names(rendered):
    service = next(m for m in rendered("gpu") if m["kind"] == "RayService")
    head = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    user = head["securityContext"]["runAsUser"]

    assert DOCKERFILE.count(f"\nUSER {user}:{user}\n") == 2
    assert f"--uid {user}" in DOCKERFILE
