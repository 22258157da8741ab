"""What do all gateways of an application share? Small actors that outlive them, found by name."""

from collections.abc import Awaitable
from typing import Any, Protocol, cast

import ray

NAMESPACE = "qzoom"


class ActorMethod(Protocol):
    """A method of an actor."""

    def remote(self, *args: object) -> Awaitable[Any]:
        """Call it."""
        ...


class Actor(Protocol):
    """Ray's handle of an actor, which has its methods but not their types."""

    def __getattr__(self, method: str) -> ActorMethod:
        """Find a method."""
        ...


def named_actor(kind: type, name: str, *args: object, max_concurrency: int | None = None) -> Actor:
    """Find an actor by its name; the first to look starts it. Ray restarts it if it dies.

    Args:
        kind: Its class.
        name: In Ray's namespace `qzoom`.
        *args: Of its constructor.
        max_concurrency: Calls that it works on at once; None takes Ray's default.
    """
    bounds = {} if max_concurrency is None else {"max_concurrency": max_concurrency}
    actor: object = (
        ray.remote(kind)
        .options(
            name=name,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            **bounds,
        )
        .remote(*args)
    )
    return cast(Actor, actor)
