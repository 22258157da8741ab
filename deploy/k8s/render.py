"""How does the chart become objects? By Helm's own engine, from its Python SDK or its binary."""

import re
import subprocess
import tempfile
from pathlib import Path
from shutil import which

import yaml

from deploy.k8s.manifest import Manifest, kind_of
from deploy.k8s.values import CHART, Values

TIMEOUT_S = 60.0
"""Longest time that the helm binary may take."""

_ORDER = (
    "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "ConfigMap", "PersistentVolumeClaim",
    "Service", "StatefulSet", "Deployment", "Job", "RayService",
)  # fmt: skip
"""What is applied first: accounts and policies before pods. Other kinds come last."""


class RenderError(Exception):
    """The chart refuses the values, or no engine is installed; the message says which."""


def render(values: Values, name: str, namespace: str, chart: Path = CHART) -> list[Manifest]:
    """Render the chart.

    Args:
        values: Over the chart's defaults.
        name: Of the release.
        namespace: That the objects go to.
        chart: Folder of the chart.

    Returns:
        The objects in the order in which they are to be applied.

    Raises:
        RenderError: If the values are refused, or neither helm-python-sdk nor helm is installed.
    """
    try:
        import helm_python  # noqa: PLC0415
    except ImportError:
        texts = [_by_binary(values, name, namespace, chart)]
    else:
        try:
            with helm_python.Chart.load(chart) as loaded:
                rendered = loaded.render(values=values, name=name, namespace=namespace)
        except helm_python.HelmError as error:
            raise RenderError(_shorten(str(error))) from error
        texts = [text for path, text in sorted(rendered.items()) if path.endswith(".yaml")]
    manifests = [
        document for text in texts for document in yaml.safe_load_all(text) if document is not None
    ]
    return sorted(manifests, key=_rank)


def _by_binary(values: Values, name: str, namespace: str, chart: Path) -> str:
    helm = which("helm")
    if helm is None:
        raise RenderError(
            "rendering needs Helm: pip install helm-python-sdk, or put the helm binary on PATH"
        )
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        command = [helm, "template", name, str(chart), "--namespace", namespace, "-f", file.name]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    if done.returncode != 0:
        raise RenderError(_shorten(done.stderr))
    return done.stdout


def _rank(manifest: Manifest) -> int:
    kind = kind_of(manifest)
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


_REFUSAL = re.compile(r"execution error at \([^)]*\): (.*)|.*error calling fail: (.*)", re.DOTALL)
_FIELD = re.compile(r"\s*- at '/?(?P<path>[^']*)': (?P<problem>.*)")


def _shorten(message: str) -> str:
    """Leave Helm's chain of template positions and schemas out of what a person reads."""
    refused = _REFUSAL.fullmatch(message.strip())
    if refused is not None:
        return (refused[1] or refused[2]).strip()
    fields = [found for line in message.splitlines() if (found := _FIELD.fullmatch(line))]
    if not fields:
        return message.strip()
    lines = (
        "  {}: {}".format(f["path"].replace("/", ".") or "values", f["problem"]) for f in fields
    )
    return "\n".join(("the chart takes no such values:", *lines))
