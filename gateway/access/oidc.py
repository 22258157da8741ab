"""Whose token is this? Signed by an issuer that the operator trusts, for us, and not expired.

The issuer's public keys (JWKS) are fetched over https, kept, and fetched again when a token names
another key, at most every `REFETCH_S`. While the issuer is away, known keys go on working.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import httpx
import jwt

from qzoom.errors import Unauthenticated, Unavailable
from qzoom.store.tenants import TENANT_RULE, is_tenant

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""Those with a public and a private key: with any other, who can check could also forge."""

LEEWAY_S = 30.0
"""By how much the clocks of issuer and gateway may differ."""

KEEP_S = 600.0
"""After which the keys are fetched again, with the next token."""

REFETCH_S = 30.0
"""Fewest seconds between two fetches: tokens that name an unknown key cost nothing to make."""

FETCH_TIMEOUT_S = 3.0
MAX_DOCUMENT_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """Which tokens are trusted.

    Attributes:
        issuer: The claim `iss`, an https address.
        audience: The claim `aud`: the name of this service at the issuer.
        tenant_claim: The claim that holds the tenant's name.
        algorithms: Of signatures, all among `ALGORITHMS`.
        jwks_url: Where the keys are; None asks the issuer's discovery document.
    """

    issuer: str
    audience: str
    tenant_claim: str = "tenant"
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    jwks_url: str | None = None


class OidcVerifier:
    """Checks tokens. Owns the client that fetches keys; `close` ends it.

    Args:
        settings: Which tokens are trusted.
    """

    def __init__(self, settings: OidcSettings) -> None:
        assert settings.algorithms, "at least one algorithm"
        assert set(settings.algorithms) <= ALGORITHMS, "only algorithms with a public key"
        self._settings = settings
        # No proxies or passwords from the environment, no redirects to anywhere.
        self._client = httpx.AsyncClient(
            timeout=FETCH_TIMEOUT_S, trust_env=False, follow_redirects=False
        )
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._lock = asyncio.Lock()

    async def tenant(self, token: str) -> str:
        """Check a token and read whose it is.

        Raises:
            Unauthenticated: If it is not valid, or names no tenant.
            Unavailable: If the issuer's keys are unknown and cannot be fetched.
        """
        claims = self._claims(token, await self._key(token))
        tenant = claims.get(self._settings.tenant_claim)
        if not is_tenant(tenant):
            raise Unauthenticated(
                f"the claim {self._settings.tenant_claim} of the token must be {TENANT_RULE}"
            )
        assert isinstance(tenant, str)
        return tenant

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.aclose()

    def _claims(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        settings = self._settings
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(settings.algorithms),
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired") from None
        except jwt.PyJWTError:
            raise Unauthenticated("the key or token is not valid") from None
        return claims

    async def _key(self, token: str) -> jwt.PyJWK:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise Unauthenticated("the key or token is not valid") from None
        key_id = header.get("kid")
        if header.get("alg") not in self._settings.algorithms or not isinstance(key_id, str):
            raise Unauthenticated("the key or token is not valid")
        if key_id not in self._keys or time.monotonic() - self._fetched > KEEP_S:
            await self._fetch(key_id)
        if key_id not in self._keys:
            if not self._keys:
                raise Unavailable("the keys of the issuer cannot be read", retry_after_s=REFETCH_S)
            raise Unauthenticated("the key or token is not valid")
        return self._keys[key_id]

    async def _fetch(self, wanted: str) -> None:
        """Fetch the keys, unless that was tried a moment ago; a failure keeps what is known."""
        async with self._lock:
            now = time.monotonic()
            is_fresh = wanted in self._keys and now - self._fetched <= KEEP_S
            if is_fresh or now - self._tried < REFETCH_S:
                return
            self._tried = now
            try:
                url = self._settings.jwks_url or await self._discover()
                keys = jwt.PyJWKSet.from_dict(await self._get(url)).keys
            except (httpx.HTTPError, httpx.InvalidURL, jwt.PyJWTError, ValueError):
                return
            self._keys = {key.key_id: key for key in keys if key.key_id}
            self._fetched = now

    async def _discover(self) -> str:
        issuer = self._settings.issuer
        document = await self._get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        url = document.get("jwks_uri")
        # The document says for whom it speaks (OpenID Connect Discovery 1.0, section 4.3).
        if document.get("issuer") != issuer or not isinstance(url, str) or not _is_safe(url):
            raise ValueError("the discovery document is not the issuer's")
        return url

    async def _get(self, url: str) -> dict[str, Any]:
        async with self._client.stream("GET", url) as response:
            response.raise_for_status()
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_DOCUMENT_BYTES:
                    raise ValueError("the document is too long")
        document = httpx.Response(200, content=bytes(body)).json()
        if not isinstance(document, dict):
            raise ValueError("the document is no object")
        return document


def _is_safe(url: str) -> bool:
    parts = httpx.URL(url)
    return parts.scheme == "https" or parts.host in ("127.0.0.1", "localhost", "::1")


def check_issuer(url: str) -> str:
    """Return the address of an issuer or of its keys.

    Raises:
        ValueError: If it is no https address; http is for tests on this machine.
    """
    try:
        is_safe = _is_safe(url)
    except httpx.InvalidURL:
        is_safe = False
    if not is_safe:
        raise ValueError(f"{url[:200]!a} must be an https address")
    return url
