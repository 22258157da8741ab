"""Which settings of a gateway change while it runs, and how?

Serve hands a deployment's `user_config` to every replica, at its start and whenever it changes,
without starting the replica again. Ours holds some of the fields of `GatewaySettings`; what it does
not hold is as the gateway was started with. `qzoom settings` goes over both.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from gateway.settings import GatewaySettings

LIVE = frozenset(
    {
        "tau_gate",
        "requests_per_minute", "visual_tokens_per_minute", "generated_tokens_per_minute",
        "concurrency",
        "admit_requests", "admit_visual_tokens", "admit_kv_mib", "admit_store_mib", "admit_waiting",
        "admit_tenant_share",
        "brownout_steps", "brownout_starts_at", "brownout_max_tau_gate", "brownout_min_roi_share",
        "brownout_max_loss",
        "max_images", "max_messages", "max_prompt_chars", "max_tokens", "default_max_tokens",
        "max_visual_tokens", "max_deadline_ms", "default_deadline_ms",
    }
)  # fmt: skip
"""Fields that need no new replica: thresholds, quotas, bounds of admission, limits of a request.
Those of bodies, pictures and addresses are not among them: what obeys these is made at the start.
"""


def with_live(settings: GatewaySettings, live: Mapping[str, Any]) -> GatewaySettings:
    """Apply a `user_config` to the settings that a gateway was started with.

    Args:
        settings: Of the start.
        live: Fields of `LIVE` and their values.

    Raises:
        ValueError: If a field is none of these, or has the wrong type or range, or the settings do
            not fit together.
    """
    fixed = sorted(set(live) - LIVE)
    if fixed:
        raise ValueError(
            f"user_config of the gateway has {', '.join(fixed)}; what changes in place is "
            f"{', '.join(sorted(LIVE))}"
        )
    try:
        return GatewaySettings(**{**settings.model_dump(), **live})
    except ValidationError as error:
        raise ValueError(f"user_config of the gateway: {_told(error)}") from None


def _told(error: ValidationError) -> str:
    problems = (
        [*map(str, problem["loc"]), problem["msg"].removeprefix("Value error, ")]
        for problem in error.errors()
    )
    return "; ".join(map(": ".join, problems))
