"""What may an operator choose about access? These fields are part of the gateway's settings."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from gateway.access.oidc import ALGORITHMS, OidcSettings, check_issuer
from gateway.access.settings import AccessSettings
from qzoom.settings import ServiceSettings
from qzoom.store.limits import TenantLimits
from qzoom.store.opening import check_address
from qzoom.store.runtime import MAX_LIMIT, RuntimeSettings

Limit = Annotated[int | None, Field(ge=0, le=MAX_LIMIT)]


class AccessOptions(ServiceSettings):
    """Who may ask, how much, and where gateways share what they know."""

    store: Annotated[str, AfterValidator(check_address)] = ""
    """Address of the store; empty takes this user's file on this machine."""

    store_namespace: str = Field("qzoom", pattern=r"^[A-Za-z0-9_-]{1,63}$")
    """Keeps several systems in one Redis apart."""

    auth: Literal["off", "required"] = "off"
    """Whether callers need a key or token; off makes everybody the tenant `default`."""

    oidc_issuer: Annotated[str, AfterValidator(check_issuer)] | None = None
    """Issuer whose tokens are trusted beside keys, an https address."""

    oidc_audience: str | None = Field(None, min_length=1)
    """Name of this service at the issuer; tokens for others are refused."""

    oidc_tenant_claim: str = Field("tenant", min_length=1)
    """Claim that holds the tenant's name."""

    oidc_algorithms: tuple[str, ...] = Field(("RS256", "ES256"), min_length=1)
    """Algorithms of signatures that are taken; only those with a public key are possible."""

    oidc_jwks_url: Annotated[str, AfterValidator(check_issuer)] | None = None
    """Where the issuer's keys are; none asks its discovery document."""

    keep_answers_s: float = Field(3600.0, gt=0, le=7 * 86400)
    """Seconds for which the answer to an Idempotency-Key is kept."""

    tau_gate: float | None = Field(None, ge=0, le=1)
    """Threshold of the gate where a request does not say; none takes the model's."""

    requests_per_minute: Limit = None
    """Requests of a tenant that begin within any 60 s; none is unlimited, as for the next three."""

    visual_tokens_per_minute: Limit = None
    """Visual tokens computed for a tenant's requests of any 60 s."""

    generated_tokens_per_minute: Limit = None
    """Tokens drawn for a tenant's requests of any 60 s."""

    concurrency: Limit = None
    """Requests of a tenant that are worked on at the same time, over all gateways."""

    @model_validator(mode="after")
    def _oidc_is_whole(self) -> Self:
        unknown = sorted(set(self.oidc_algorithms) - ALGORITHMS)
        if unknown:
            raise ValueError(
                f"oidc_algorithms has {', '.join(unknown)}, possible are "
                f"{', '.join(sorted(ALGORITHMS))}"
            )
        if (self.oidc_issuer is None) != (self.oidc_audience is None):
            raise ValueError("oidc_issuer and oidc_audience need each other")
        if self.oidc_issuer is not None and self.auth == "off":
            raise ValueError("oidc_issuer has no effect while auth is off")
        return self

    def access_settings(self) -> AccessSettings:
        """Put together what `Access` needs."""
        oidc = None
        if self.oidc_issuer is not None and self.oidc_audience is not None:
            oidc = OidcSettings(
                self.oidc_issuer,
                self.oidc_audience,
                self.oidc_tenant_claim,
                self.oidc_algorithms,
                self.oidc_jwks_url,
            )
        limits = TenantLimits(
            self.requests_per_minute,
            self.visual_tokens_per_minute,
            self.generated_tokens_per_minute,
            self.concurrency,
        )
        return AccessSettings(
            store=self.store,
            namespace=self.store_namespace,
            required=self.auth == "required",
            oidc=oidc,
            keep_answers_s=self.keep_answers_s,
            initial=RuntimeSettings(self.tau_gate, limits),
        )
