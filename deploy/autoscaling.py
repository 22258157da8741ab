"""How many replicas does each deployment need? A policy for the whole application.

Serve's own policy looks at one deployment at a time: when a burst arrives, the gateway grows, then
the encoder, then the gate, then rpn and llm, each only once the requests have reached it, and each
start takes its own seconds. All stages work for the same requests, so the burst at the gateway
tells at once what will reach the others: a stage's usual share of the requests in flight. For rpn
and the RoI half of the encoder this share contains the gate-open rate; a gate that opens more often
raises it within a minute, before a queue has formed.

Runs in Serve's controller, named in a Serve config file as the application's `autoscaling_policy`.
Serve applies the bounds, delays and factors of each deployment's `autoscaling_config` to what is
returned here.
"""

import math
from collections.abc import Mapping
from typing import Protocol, TypeVar

SOURCE = "gateway"
"""Every request is in flight here from its first byte to its last token."""

MIN_SOURCE_LOAD = 0.5
"""Below so many requests in flight on average, a share is noise and is not learnt."""

SHARE = "share"
"""Key of what is remembered for each deployment."""

State = dict[str, float]


class Config(Protocol):
    """What is read of Serve's `AutoscalingConfig`."""

    target_ongoing_requests: float | None


class Context(Protocol):
    """What is read of Serve's `AutoscalingContext`."""

    config: Config
    policy_state: State

    @property
    def deployment_name(self) -> str:
        """Name of the deployment, such as `gate`."""

    @property
    def total_num_requests(self) -> float:
        """Requests in work and waiting, averaged over the look-back period."""


Key = TypeVar("Key")


def learn_share(previous: float | None, load: float, source_load: float, weight: float) -> float:
    """Follow what part of the requests in flight is at a stage.

    Args:
        previous: The share so far; None before the first request.
        load: Requests in work and waiting at the stage.
        source_load: Requests in flight in the whole application.
        weight: How much the newest observation counts, in (0, 1].

    Returns:
        The new share, in [0, 1]; a stage never has more requests than there are.
    """
    if source_load < MIN_SOURCE_LOAD:
        return previous or 0.0
    seen = min(load / source_load, 1.0)
    return seen if previous is None else previous + weight * (seen - previous)


def replicas_for(load: float, predicted: float, target: float) -> int:
    """Replicas that carry a load.

    Args:
        load: Requests in work and waiting at the stage now.
        predicted: Requests that will be there when what is in flight has spread.
        target: Requests per replica to aim at, above 0.

    Returns:
        Replicas for the larger of both, before bounds; 0 without any load.
    """
    most = max(load, predicted)
    # The quotient of a tiny load may round to nothing; any load needs a replica.
    return max(math.ceil(most / target), int(most > 0))


class FlowPolicy:
    """Scales every stage by its own load and by what the requests in flight will bring.

    Args:
        weight: How much the newest observation of a share counts, in (0, 1]. Serve decides ten
            times a second, so 0.01 follows a change within some ten seconds.
    """

    def __init__(self, weight: float = 0.01) -> None:
        if not 0.0 < weight <= 1.0:
            raise ValueError(f"weight must be in (0, 1], got {weight}")
        self._weight = weight

    def __call__(
        self, contexts: Mapping[Key, Context]
    ) -> tuple[dict[Key, float], dict[Key, State]]:
        """Decide for all deployments.

        Args:
            contexts: What Serve knows of each deployment, by its id.

        Returns:
            Wanted replicas, and what is remembered, by deployment id.
        """
        in_flight = sum(
            context.total_num_requests
            for context in contexts.values()
            if context.deployment_name == SOURCE
        )
        decisions: dict[Key, float] = {}
        states: dict[Key, State] = {}
        for key, context in contexts.items():
            load = context.total_num_requests
            share = learn_share(context.policy_state.get(SHARE), load, in_flight, self._weight)
            target = context.config.target_ongoing_requests
            assert target, "Serve fills in target_ongoing_requests"
            decisions[key] = replicas_for(load, share * in_flight, target)
            states[key] = {SHARE: share}
        return decisions, states
