"""How do gateway and services become one system? One Serve application of five deployments.

The only place that knows all of them. In a Serve config file it is `import_path: deploy.app:build`,
with the fields of `AppConfig` as `args`.
"""

import os
from typing import Any, cast

from ray.serve import Application, Deployment

from deploy.config import AppConfig
from gateway.deployment import GatewayDeployment
from qzoom.settings import StageSettings
from services.encoder.deployment import EncoderDeployment
from services.gate.deployment import GateDeployment
from services.llm.deployment import LlmDeployment
from services.rpn.deployment import RpnDeployment

SHUTDOWN_S = 10.0
"""Time that a replica has for the requests that it still works on."""

DRAIN_POLL_S = 0.5
"""How often a replica that stops looks whether its requests have ended."""

REQUESTS_A_CORE = 3
"""In work at once where CPUs compute: one that computes, others between two stages."""

ROUTER = "gateway.routing.AffinityRouter"
"""Sends what is asked about one picture to the replica that holds it."""

HEALTH_TIMEOUT_S = 60.0
"""A replica that answers no health check for so long is replaced; a busy machine is slow."""


def build(config: AppConfig) -> Application:
    """Bind the five deployments.

    Raises:
        pydantic.ValidationError: If a setting of a service has the wrong type or range.
        ValueError: If an environment variable names no setting.
    """
    llm, gate = config.llm_settings(), config.gate_settings()
    # What no slot of the llm can hold is refused before anything is computed for it.
    longest = min(gate.max_prompt_tokens, llm.max_len - 1)
    gate = gate.model_copy(update={"max_prompt_tokens": longest})
    common: dict[str, Any] = {
        "graceful_shutdown_timeout_s": SHUTDOWN_S,
        "graceful_shutdown_wait_loop_s": DRAIN_POLL_S,
        "health_check_timeout_s": HEALTH_TIMEOUT_S,
        "max_constructor_retry_count": config.constructor_tries,
    }
    for_stages = dict(common)
    if config.reuse:
        for_stages["request_router_config"] = {"request_router_class": ROUTER}
    gateway = config.gateway_settings()
    if not gateway.admit_requests:
        in_work = llm.max_slots * llm.replicas
        if config.device == "cpu":
            # More at once makes every answer slower and none more: all stages share these cores.
            in_work = min(in_work, REQUESTS_A_CORE * len(os.sched_getaffinity(0)))
        gateway = gateway.model_copy(update={"admit_requests": in_work})
    # Ray types a decorated class as the class itself, hence the casts.
    return (
        cast(Deployment, GatewayDeployment)
        .options(
            num_replicas=gateway.replicas,
            max_ongoing_requests=gateway.max_ongoing_requests,
            ray_actor_options={"num_cpus": gateway.cpus},
            **common,
        )
        .bind(
            gateway,
            encoder=_stage(EncoderDeployment, config.encoder_settings(), for_stages),
            gate=_stage(GateDeployment, gate, for_stages),
            rpn=_stage(RpnDeployment, config.rpn_settings(), for_stages),
            llm=_stage(LlmDeployment, llm, for_stages, num_running=llm.max_slots),
        )
    )


def _stage(
    stage: type, settings: StageSettings, common: dict[str, Any], num_running: int = 0
) -> Application:
    # Beside what runs and what waits there must be room for what the service refuses itself: it
    # says why, where Serve would queue without a bound.
    return (
        cast(Deployment, stage)
        .options(
            num_replicas=settings.replicas,
            max_ongoing_requests=2 * settings.max_waiting + num_running,
            ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
            **common,
        )
        .bind(settings)
    )
