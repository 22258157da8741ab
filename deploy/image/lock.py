"""Which exact files go into the images? Writes `gateway.lock`, `stage.lock` and `build.lock`.

    python -m deploy.image.lock

Reads what is installed here and therefore tested together (requirements/constraints.txt), follows
the dependencies of the extras, and asks pip for the SHA-256 of each file, for CPython 3.11 on
linux/amd64. torch is left out: its version is an argument of the build.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parent
TIMEOUT_S = 600.0

INDEX = "https://pypi.org/simple"
"""Whose files are locked, whatever mirror this machine uses otherwise."""

BUILD = ("build", "hatchling", "cyclonedx-bom")
"""Tools of the build, in no image."""

_PLATFORM = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64",
             "--platform", "manylinux_2_17_x86_64", "--platform", "manylinux2014_x86_64",
             "--platform", "manylinux1_x86_64", "--platform", "any",
             "--only-binary", ":all:")  # fmt: skip

_MIRRORS = ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")
_NOT_LOCKED = {"qzoom", "torch", "pip", "setuptools"}
_CUDA = ("nvidia-", "cuda-", "triton")
"""Brought by torch's own wheel where it has CUDA."""


def closure(requirement: str) -> set[str]:
    """Names of everything that a requirement brings, itself included, as installed here."""
    found: dict[str, set[str]] = {}
    stack = [Requirement(requirement)]
    while stack:
        current = stack.pop()
        name = canonicalize_name(current.name)
        extras = {"", *current.extras}
        new = extras - found.get(name, set())
        if not new:
            continue
        found.setdefault(name, set()).update(new)
        stack.extend(_needs(name, new))
    return {name for name in found if name not in _NOT_LOCKED and not name.startswith(_CUDA)}


def _needs(name: str, extras: set[str]) -> Iterator[Requirement]:
    """What a package needs; ours from pyproject.toml, as the installed one may be older."""
    if name == "qzoom":
        project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())["project"]
        groups = {"": project["dependencies"], **project["optional-dependencies"]}
        yield from (Requirement(text) for extra in extras for text in groups[extra])
        return
    for text in distribution(name).requires or []:
        needed = Requirement(text)
        marker = needed.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            yield needed


def locked(names: set[str]) -> Iterator[str]:
    """Ask pip which file it would take for each installed version.

    Yields:
        Lines of a requirements file with hashes, sorted by name.

    Raises:
        subprocess.CalledProcessError: If pip finds no file for a version.
    """
    pins = [f"{name}=={distribution(name).version}" for name in sorted(names)]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable, "-m", "pip", "--isolated", "install", "--dry-run",
            "--ignore-installed", "--no-deps", "--quiet", "--index-url", INDEX,
            "--report", str(report), "--target", folder, *_PLATFORM, *pins,
        ]  # fmt: skip
        without_mirrors = {k: v for k, v in os.environ.items() if k not in _MIRRORS}
        subprocess.run(command, check=True, timeout=TIMEOUT_S, env=without_mirrors)
        installed = json.loads(report.read_text())["install"]
    for item in sorted(installed, key=lambda item: canonicalize_name(item["metadata"]["name"])):
        name = canonicalize_name(item["metadata"]["name"])
        digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
        yield f"{name}=={item['metadata']['version']} --hash=sha256:{digest}"


def main() -> None:
    """Write the three files."""
    gateway = closure("qzoom[gateway,serve]")
    stage = closure("qzoom[gateway,serve,model]") - gateway
    build = set().union(*map(closure, BUILD))
    for name, packages in (("gateway", gateway), ("stage", stage), ("build", build)):
        text = "\n".join(["# Written by `python -m deploy.image.lock`.", *locked(packages)])
        (FOLDER / f"{name}.lock").write_text(text + "\n")


if __name__ == "__main__":
    main()
