"""Are objects named and labelled as Kubernetes and KubeRay want it?"""

import re
from collections import Counter
from collections.abc import Iterator

from deploy.k8s.manifest import Manifest, kind_of, label_of, name_of, pod_templates

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_STRICT = {"RayService": 47, "Service": 63}
"""Kinds whose name becomes a DNS label, with the longest name. KubeRay adds suffixes to its own."""

_MAX_NAME = 253
_MAX_LABEL = 63


def check_names(manifests: list[Manifest]) -> Iterator[str]:
    """Names are valid, short enough, and used once; one namespace holds everything."""
    for manifest in manifests:
        name = name_of(manifest)
        limit = _STRICT.get(kind_of(manifest), _MAX_NAME)
        pattern = _LABEL_1035 if kind_of(manifest) in _STRICT else _SUBDOMAIN
        if len(name) > limit:
            yield f"{label_of(manifest)}: the name has {len(name)} characters, limit {limit}"
        if not pattern.fullmatch(name):
            yield f"{label_of(manifest)}: the name is no DNS name"
    for label, count in Counter(map(label_of, manifests)).items():
        if count > 1:
            yield f"{label}: rendered {count} times"
    namespaces = {manifest["metadata"].get("namespace") for manifest in manifests}
    if len(namespaces) > 1:
        yield f"objects in several namespaces: {sorted(map(str, namespaces))}"


def check_labels(manifests: list[Manifest]) -> Iterator[str]:
    """Values of labels are valid, on objects and on pods."""
    for manifest in manifests:
        labelled = [(label_of(manifest), manifest["metadata"].get("labels", {}))]
        labelled += [
            (place, template["metadata"].get("labels", {}))
            for place, template in pod_templates(manifest)
        ]
        for place, labels in labelled:
            for key, value in labels.items():
                if not isinstance(value, str):
                    yield f"{place}: label {key} is {value!r}, not a string"
                elif len(value) > _MAX_LABEL or not _LABEL_VALUE.fullmatch(value):
                    yield f"{place}: label {key} has the invalid value {value!r}"
