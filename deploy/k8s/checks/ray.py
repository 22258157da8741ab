"""Do the RayService, its Serve application and the code agree?"""

import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import yaml
from pydantic import ValidationError

from deploy.config import AppConfig
from deploy.k8s.checks.quantity import parse_quantity
from deploy.k8s.manifest import Manifest, find
from gateway.live import with_live

GROUP_LABEL = "qzoom.io/group"
"""Ray label of a node and Kubernetes label of its pod: the worker group."""

_TAGGED = re.compile(r"ray(\d+\.\d+\.\d+)")


def serve_config(service: Manifest) -> dict[str, Any]:
    """Read `serveConfigV2`."""
    config: dict[str, Any] = yaml.safe_load(service["spec"]["serveConfigV2"])
    return config


def _groups(service: Manifest) -> list[tuple[str, Manifest, Manifest]]:
    """Name, spec and Ray container of the head and of every worker group."""
    cluster = service["spec"]["rayClusterConfig"]
    specs = [("head", cluster["headGroupSpec"])]
    specs += [(group["groupName"], group) for group in cluster["workerGroupSpecs"]]
    return [(name, spec, spec["template"]["spec"]["containers"][0]) for name, spec in specs]


def check_version(manifests: list[Manifest]) -> Iterator[str]:
    """`rayVersion` is the Ray that is installed here and the one that each image is tagged with."""
    for service in find(manifests, "RayService"):
        wanted = service["spec"]["rayClusterConfig"]["rayVersion"]
        if wanted != version("ray"):
            yield f"rayVersion is {wanted}, the code is pinned to ray {version('ray')}"
        for name, _, container in _groups(service):
            tagged = _TAGGED.search(container["image"].rpartition(":")[2])
            tagged = tagged or _TAGGED.search(container["image"])
            if tagged is None:
                yield f"{name}: the tag of {container['image']} does not say ray{wanted}"
            elif tagged[1] != wanted:
                yield f"{name}: {container['image']} is not rayVersion {wanted}"


def check_memory(manifests: list[Manifest]) -> Iterator[str]:
    """The object store fits into the shared memory, and that into the memory of the pod."""
    for service in find(manifests, "RayService"):
        for name, spec, container in _groups(service):
            store = int(spec["rayStartParams"]["object-store-memory"])
            memory = parse_quantity(container["resources"]["limits"]["memory"])
            shared = sum(
                parse_quantity(volume["emptyDir"]["sizeLimit"])
                for volume in spec["template"]["spec"]["volumes"]
                if volume["name"] == "shared-mem"
            )
            if store > shared:
                yield f"{name}: the object store of {store} bytes exceeds the shared memory"
            if shared * 2 > memory:
                yield f"{name}: shared memory of {shared} bytes leaves too little of {memory}"


def check_placement(manifests: list[Manifest]) -> Iterator[str]:
    """Every deployment has a group that offers what one replica asks for."""
    for service in find(manifests, "RayService"):
        offers = {
            name: container["resources"]["limits"]
            for name, _, container in _groups(service)
            if name != "head"
        }
        for application in serve_config(service)["applications"]:
            for deployment in application["deployments"]:
                yield from _check_replica(deployment, offers)


def _check_replica(deployment: dict[str, Any], offers: dict[str, Any]) -> Iterator[str]:
    options = deployment["ray_actor_options"]
    selector = options.get("label_selector", {}).get(GROUP_LABEL)
    groups = [selector] if selector else list(offers)
    if selector is not None and selector not in offers:
        yield f"deployment {deployment['name']} asks for group {selector}, which is none"
        return
    asked = {"cpu": options["num_cpus"], "nvidia.com/gpu": options.get("num_gpus", 0)}
    for resource, amount in asked.items():
        most = max(parse_quantity(offers[group].get(resource, 0)) for group in groups)
        if amount > most:
            yield (
                f"deployment {deployment['name']} asks {amount} {resource} for a replica, "
                f"a node of {', '.join(groups)} has {most}"
            )


def check_application(manifests: list[Manifest]) -> Iterator[str]:
    """The import path builds, its arguments are settings, and its deployments are those named."""
    for service in find(manifests, "RayService"):
        for application in serve_config(service)["applications"]:
            named = {deployment["name"] for deployment in application["deployments"]}
            try:
                built = deployment_names(application["import_path"], application["args"])
            except ValidationError as error:
                told = "; ".join(
                    f"{error.title}.{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
                    for problem in error.errors()
                )
                yield f"{application['import_path']} does not build: {told}"
                continue
            except (ImportError, AttributeError, ValueError) as error:
                yield f"{application['import_path']} does not build: {error}"
                continue
            yield from _check_live(application)
            if built != named:
                yield f"deployments are {sorted(built)}, the configuration names {sorted(named)}"


def _check_live(application: dict[str, Any]) -> Iterator[str]:
    """Settings that change in place fit to the others, as the gateway itself sees it."""
    settings = AppConfig(**application["args"]).gateway_settings()
    for deployment in application["deployments"]:
        if deployment["name"] == "gateway":
            try:
                with_live(settings, deployment.get("user_config") or {})
            except ValueError as error:
                yield str(error)


def deployment_names(import_path: str, args: dict[str, Any]) -> set[str]:
    """Build an application as Serve does, without running it, and list its deployments.

    Raises:
        ImportError: If the module is missing.
        AttributeError: If the module has no such function.
        ValueError: If the arguments are not the builder's.
    """
    from ray._common.utils import import_attr  # noqa: PLC0415
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary  # noqa: PLC0415
    from ray.serve._private.build_app import build_app  # noqa: PLC0415

    application = call_user_app_builder_with_args_if_necessary(import_attr(import_path), args)
    return {deployment.name for deployment in build_app(application, name="check").deployments}
