"""The shape of the repository: what a newcomer relies on when listing folders."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 400
PACKAGES = (
    "qzoom",
    "services",
    "gateway",
    "training",
    "evaluation",
    "cli",
    "deploy",
    "benchmarks",
)


def python_files() -> list[Path]:
    files = [f for p in PACKAGES for f in (ROOT / p).rglob("*.py")]
    return [f for f in files if "pb" not in f.relative_to(ROOT).parts]


def test_no_file_grows_past_the_limit() -> None:
    long = {
        str(f.relative_to(ROOT)): n
        for f in python_files()
        if (n := len(f.read_text().splitlines())) > MAX_LINES
    }
    assert not long, f"files with more than {MAX_LINES} lines: {long}"


def test_proto_is_no_package() -> None:
    assert not list((ROOT / "proto").rglob("*.py")), "a package named proto breaks google's"


def test_every_command_of_the_makefile_exists() -> None:
    commands = re.findall(r"@\$\(QZOOM\) ((?:[a-z]+ ?)+)", (ROOT / "Makefile").read_text())
    assert len(commands) >= 5
    for command in commands:
        code = "from cli.main import app; app()"
        run = subprocess.run(
            [sys.executable, "-c", code, *command.split(), "--help"],
            cwd=ROOT,
            timeout=120,
            check=False,
            capture_output=True,
        )
        assert run.returncode == 0, f"qzoom {command}: {run.stderr.decode()[-500:]}"


@pytest.mark.parametrize("service", ["encoder", "gate", "rpn", "llm"])
def test_every_service_has_the_same_files(service: str) -> None:
    files = {f.name for f in (ROOT / "services" / service).glob("*.py")}
    assert {"__init__.py", "deployment.py", "service.py", "settings.py"} <= files


def test_make_targets_are_documented() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = [
        "help",
        "env",
        "env-dev",
        "demo",
        "serve",
        "test",
        "test-all",
        "check",
        "fmt",
        "proto",
        "train",
        "evaluate",
        "bench",
    ]
    missing = [t for t in targets if not re.search(rf"^{t}:.*## \S", makefile, re.MULTILINE)]
    assert not missing


@pytest.mark.parametrize(
    "module",
    [
        "gateway.app",
        "services.gate.deployment",
        "services.llm.deployment",
        "deploy.app",
        "cli.main",
    ],
)
def test_importing_an_entry_point_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"

    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, timeout=120, check=False, capture_output=True
    )
    assert run.returncode == 0, run.stderr.decode()[-2000:]
