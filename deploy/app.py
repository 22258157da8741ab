"""How do gateway and services become one system? One Serve application of five deployments.

The only place that knows all of them. In a Serve config file it is `import_path: deploy.app:build`,
with the fields of `AppConfig` as `args`.
"""

from typing import Any, cast

from ray.serve import Application, Deployment

from deploy.config import AppConfig
from gateway.deployment import GatewayDeployment
from gateway.settings import GatewaySettings
from qzoom.settings import StageSettings
from services.encoder.deployment import EncoderDeployment
from services.gate.deployment import GateDeployment
from services.llm.deployment import LlmDeployment
from services.rpn.deployment import RpnDeployment

SHUTDOWN_S = 10.0
"""Time that a replica has for the requests that it still works on."""

HEALTH_TIMEOUT_S = 60.0
"""A replica that answers no health check for so long is replaced; a busy machine is slow."""

CONSTRUCTOR_TRIES = 3
"""A checkpoint that cannot be read does not become readable by trying on."""


def build(config: AppConfig) -> Application:
    """Bind the five deployments.

    Raises:
        pydantic.ValidationError: If a setting of a service has the wrong type or range.
        ValueError: If an environment variable names no setting.
    """
    llm = config.llm_settings()
    return _gateway(
        config.gateway_settings(),
        encoder=_stage(EncoderDeployment, config.encoder_settings()),
        gate=_stage(GateDeployment, config.gate_settings()),
        rpn=_stage(RpnDeployment, config.rpn_settings()),
        llm=_stage(LlmDeployment, llm, num_running=llm.max_slots),
    )


# Ray types a decorated class as the class itself, hence the casts below.


def _stage(stage: type, settings: StageSettings, num_running: int = 0) -> Application:
    deployment = cast(Deployment, stage)
    # Beside what runs and what waits there must be room for what the service refuses itself: it
    # says why, where Serve would queue without a bound.
    return deployment.options(
        num_replicas=settings.replicas,
        max_ongoing_requests=2 * settings.max_waiting + num_running,
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
        **_COMMON,
    ).bind(settings)


def _gateway(settings: GatewaySettings, **services: Application) -> Application:
    deployment = cast(Deployment, GatewayDeployment)
    return deployment.options(
        num_replicas=settings.replicas,
        max_ongoing_requests=settings.max_ongoing_requests,
        ray_actor_options={"num_cpus": settings.cpus},
        **_COMMON,
    ).bind(settings, **services)


_COMMON: dict[str, Any] = {
    "graceful_shutdown_timeout_s": SHUTDOWN_S,
    "graceful_shutdown_wait_loop_s": 0.5,
    "health_check_timeout_s": HEALTH_TIMEOUT_S,
    "max_constructor_retry_count": CONSTRUCTOR_TRIES,
}
