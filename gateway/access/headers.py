"""What is a client told about its limits? In the headers of every answer, or gRPC's metadata.

Two forms of the same: the IETF's draft (draft-ietf-httpapi-ratelimit-headers: `ratelimit-policy`
and `ratelimit`, one item for each limit), and OpenAI's `x-ratelimit-limit-requests` and so on,
which its clients know.
"""

import math

from qzoom.store.limits import WINDOW_S, Resource, TenantLimits
from qzoom.store.messages import Verdict

REPLAYED = "idempotency-replayed"
"""`true` where the answer was given before."""


def limit_headers(limits: TenantLimits, verdict: Verdict) -> dict[str, str]:
    """Write what a tenant may use, what is left of it, and when all of it is there again."""
    policy, state, headers = [], [], {}
    for resource, limit, used, reset_s in zip(
        Resource, limits.per_minute, verdict.used, verdict.reset_s, strict=True
    ):
        if limit is None:
            continue
        name, left, seconds = resource.header, max(0, limit - used), math.ceil(reset_s)
        policy.append(f'"{name}";q={limit};w={WINDOW_S}')
        state.append(f'"{name}";r={left};t={seconds}')
        headers[f"x-ratelimit-limit-{name}"] = str(limit)
        headers[f"x-ratelimit-remaining-{name}"] = str(left)
        headers[f"x-ratelimit-reset-{name}"] = f"{seconds}s"
    if policy:
        headers["ratelimit-policy"] = ", ".join(policy)
        headers["ratelimit"] = ", ".join(state)
    if limits.concurrency is not None:
        headers["x-ratelimit-limit-concurrency"] = str(limits.concurrency)
        headers["x-ratelimit-remaining-concurrency"] = str(
            max(0, limits.concurrency - verdict.running)
        )
    return headers
