"""What would a cluster, KubeRay or Ray Serve refuse, or accept and never run?

A schema sees one field at a time; these rules compare fields with each other. Each rule takes the
rendered objects and yields one sentence for each problem.
"""

from collections.abc import Callable, Iterator

from deploy.k8s.checks import names, pods, ray, wiring
from deploy.k8s.manifest import Manifest

Rule = Callable[[list[Manifest]], Iterator[str]]

RULES: tuple[Rule, ...] = (
    names.check_names,
    names.check_labels,
    pods.check_security,
    pods.check_resources,
    ray.check_version,
    ray.check_memory,
    ray.check_placement,
    ray.check_application,
    wiring.check_ports,
    wiring.check_selectors,
    wiring.check_references,
    wiring.check_routes,
)


def check(manifests: list[Manifest]) -> list[str]:
    """Apply all rules.

    Returns:
        One sentence for each problem; empty if there is none.
    """
    return [problem for rule in RULES for problem in rule(manifests)]
