import socket

import numpy
import pytest

from cli import checks
from cli.checks import Verdict, examine


def by_name(findings):
    return {finding.what: finding for finding in findings}


def test_a_used_port_is_told():
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        finding = checks._port(port)
    assert finding.verdict is Verdict.NOTE
    assert "--port" in finding.remedy


def test_a_folder_that_is_no_model_is_missing(tmp_path):
    finding = checks._model(tmp_path / "absent")
    assert finding.verdict is Verdict.MISSING
    assert "absent" in finding.found


def test_this_environment_has_what_it_needs():
    found = by_name(examine(None, ()))
    for what in ("Python", "packages", "packages [model]", "packages [gateway]", "PyTorch"):
        assert found[what].verdict is Verdict.OK, found[what]


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("ray[serve]==2.60.0", ("ray", ["serve"], "==2.60.0")),
        ("qzoom[gateway,model]", ("qzoom", ["gateway", "model"], "")),
        ("httpx>=0.28", ("httpx", [], ">=0.28")),
        ("pydantic-settings >= 2.12", ("pydantic-settings", [], ">= 2.12")),
    ],
)
def test_requirements_are_taken_apart(requirement, expected):
    assert checks._split(requirement) == expected


def test_a_wrong_version_of_a_pinned_package_is_told():
    assert checks._package_problem("numpy", numpy.__version__) == ""
    assert "instead of 0.1" in checks._package_problem("numpy", "0.1")
    assert checks._package_problem("no-such-package", "") == "no-such-package"
