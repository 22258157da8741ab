"""What does access need to be told? A part of the gateway's settings, by its own name."""

from dataclasses import dataclass, field

from gateway.access.oidc import OidcSettings
from qzoom.store.runtime import RuntimeSettings


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may ask, and where the gateways share what they know.

    Attributes:
        store: Address of the store (`qzoom.store.opening`).
        namespace: Keeps several systems in one Redis apart.
        required: Whether a key or token is needed.
        oidc: Which tokens are trusted; None trusts keys alone.
        keep_answers_s: Seconds for which the answer to an Idempotency-Key is kept.
        initial: Limits and thresholds until `qzoom settings` says otherwise.
    """

    store: str = ""
    namespace: str = "qzoom"
    required: bool = False
    oidc: OidcSettings | None = None
    keep_answers_s: float = 3600.0
    initial: RuntimeSettings = field(default_factory=RuntimeSettings)
