"""What is one Kubernetes object to us? The plain mapping, and the few things read from it often."""

from collections.abc import Iterator
from typing import Any

Manifest = dict[str, Any]
"""One Kubernetes object."""


def kind_of(manifest: Manifest) -> str:
    """Kind of the object, such as `Service`."""
    return str(manifest["kind"])


def name_of(manifest: Manifest) -> str:
    """Name of the object."""
    return str(manifest["metadata"]["name"])


def label_of(manifest: Manifest) -> str:
    """How the object is called in messages: `Service/qzoom`."""
    return f"{kind_of(manifest)}/{name_of(manifest)}"


def find(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """All objects of a kind."""
    return [manifest for manifest in manifests if kind_of(manifest) == kind]


def ray_service(manifests: list[Manifest]) -> Manifest:
    """The RayService.

    Raises:
        ValueError: If there is not exactly one.
    """
    found = find(manifests, "RayService")
    if len(found) != 1:
        raise ValueError(f"expected one RayService, found {len(found)}")
    return found[0]


def pod_templates(manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
    """Every pod template in an object, each with a name for messages.

    KubeRay adds labels of its own to the pods it makes; those that others select by are added here
    too, so that selectors can be compared with what will run.
    """
    spec = manifest.get("spec", {})
    match kind_of(manifest):
        case "RayService":
            cluster = spec["rayClusterConfig"]
            groups = [("head", "head", cluster["headGroupSpec"])]
            groups += [(g["groupName"], "worker", g) for g in cluster["workerGroupSpecs"]]
            for group, node_type, group_spec in groups:
                template = group_spec["template"]
                labels = {
                    **template["metadata"]["labels"],
                    **group_spec.get("labels", {}),
                    "ray.io/node-type": node_type,
                    "ray.io/serve": "true",
                }
                metadata = {**template["metadata"], "labels": labels}
                yield f"{label_of(manifest)}/{group}", {**template, "metadata": metadata}
        case "Deployment" | "StatefulSet" | "Job":
            yield label_of(manifest), spec["template"]
        case _:
            return
