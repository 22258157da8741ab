"""Who asks? From `Authorization: Bearer ...` to a tenant."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.access.oidc import OidcVerifier
from gateway.access.shared import SharedState
from qzoom.contracts.tenancy import DEFAULT_TENANT
from qzoom.errors import Unauthenticated, Unavailable
from qzoom.store import api_keys

MAX_CREDENTIAL_CHARS = 8192
"""Tokens with many claims have a few thousand characters."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may ask.

    Attributes:
        tenant: Whose limits apply.
        name: What let them in, for logs: `key:<id>`, `token` or `nobody`.
    """

    tenant: str
    name: str

    @property
    def sees(self) -> str | None:
        """Tenant whose requests it may look at; None for all, where nobody has to be known."""
        return None if self.name == ANYBODY.name else self.tenant


ANYBODY = Caller(DEFAULT_TENANT, "nobody")


class Callers:
    """Lets callers in.

    Args:
        shared: Knows the keys.
        oidc: Checks tokens; None where no issuer is trusted.
        required: Whether a key or token is needed; else everybody is the default tenant, whatever
            they send.
    """

    def __init__(self, shared: SharedState, oidc: OidcVerifier | None, *, required: bool) -> None:
        self._shared = shared
        self._oidc = oidc
        self._required = required

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Find out who asks.

        Args:
            headers: HTTP headers or gRPC metadata, lower-case names.

        Raises:
            Unauthenticated: If there is no valid key or token; the same words for every reason
                that would tell a stranger about keys.
            Unavailable: If keys or the issuer's keys could not be read so far.
        """
        if not self._required:
            return ANYBODY
        credential = _bearer(headers.get("authorization"))
        key_id = api_keys.key_id(credential)
        if key_id is not None:
            return await self._holder(credential, key_id)
        if self._oidc is not None and credential.count(".") == 2:
            return Caller(await self._oidc.tenant(credential), "token")
        raise Unauthenticated("the key or token is not valid")

    async def _holder(self, key: str, key_id: str) -> Caller:
        record = self._shared.key(key_id)
        if record is None:
            await self._shared.refresh()
            record = self._shared.key(key_id)
        if record is None and not self._shared.was_read:
            raise Unavailable("keys cannot be read at the moment", retry_after_s=1)
        if record is None or not api_keys.belongs(key, record) or not record.is_valid(time.time()):
            raise Unauthenticated("the key or token is not valid")
        return Caller(record.tenant, f"key:{key_id}")


def _bearer(header: str | None) -> str:
    if header is None:
        raise Unauthenticated("a key is needed, as in `Authorization: Bearer qz-...`")
    scheme, _, credential = header.strip().partition(" ")
    credential = credential.strip()
    if scheme.lower() != "bearer" or not credential:
        raise Unauthenticated("the header authorization must read `Bearer <key>`")
    if len(credential) > MAX_CREDENTIAL_CHARS or not credential.isascii():
        raise Unauthenticated("the key or token is not valid")
    return credential
