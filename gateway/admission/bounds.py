"""How much may be in work at once? What the operator allows, over all gateways."""

from dataclasses import dataclass, field

from gateway.admission.brownout import BrownoutBounds

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class AdmissionBounds:
    """Bounds on what is in work, exact over all gateways, and on what waits.

    A request that passes a bound by itself is worked on alone.

    Attributes:
        requests: Requests.
        visual_tokens: Their predicted visual tokens.
        kv_bytes: Their predicted KV caches.
        store_bytes: What they are predicted to hold in the object store.
        tenant_share: Part of each of these that one tenant may have, in (0, 1].
        max_waiting: Requests that may wait.
        brownout: What may be shed before.
    """

    requests: int = 32
    visual_tokens: int = 65_536
    kv_bytes: int = 4096 * MIB
    store_bytes: int = 640 * MIB
    tenant_share: float = 1.0
    max_waiting: int = 32
    brownout: BrownoutBounds = field(default_factory=BrownoutBounds)
