"""Which values does a rendering use? Profiles of the chart, files and single settings, merged."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent.parent / "helm" / "qzoom"
"""The chart, part of the package."""

PROFILES = ("local", "gpu", "ha")
"""Profiles that the chart brings, as `values-<profile>.yaml`."""

Values = dict[str, Any]


def load_values(sources: Iterable[str], settings: Iterable[str] = ()) -> Values:
    """Merge value files from left to right, then single settings.

    Args:
        sources: Names of profiles (`local`, `gpu`, `ha`) or paths of YAML files.
        settings: `path.to.key=value`; the value is read as YAML.

    Raises:
        ValueError: If a file is missing or no mapping, or a setting has no `=`.
    """
    values: Values = {}
    for source in sources:
        values = merge(values, _read(source))
    for setting in settings:
        values = merge(values, parse_setting(setting))
    return values


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Values:
    """Merge mappings key by key, as Helm does; anything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def parse_setting(setting: str) -> Values:
    """Read `path.to.key=value` as nested values.

    Raises:
        ValueError: If there is no `=`, no key, or the value is not YAML.
    """
    path, equals, text = setting.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise ValueError(f"a setting is path.to.key=value, got {setting!r}")
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"the value of {path} is not YAML: {text!r}") from error
    for key in reversed(keys):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def _read(source: str) -> Values:
    path = CHART / f"values-{source}.yaml" if source in PROFILES else Path(source)
    if not path.is_file():
        raise ValueError(f"no profile ({', '.join(PROFILES)}) and no file: {source}")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a mapping, not {type(values).__name__}")
    return values
