"""What is a store asked, and what does it answer? Small frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from qzoom.store.limits import Amounts, Resource, TenantLimits


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key as it is kept: nothing in here lets anybody in.

    Attributes:
        id: The part of the key that may be shown; names it.
        digest: SHA-256 of the whole key, in hexadecimal.
        tenant: Whose requests it lets in.
        name: What its owner calls it; may be empty.
        created: Unix time in seconds.
        expires: Unix time in seconds from which it lets nobody in; None never.
        revoked: Unix time in seconds at which it was revoked; None if it was not.
    """

    id: str
    digest: str
    tenant: str
    name: str
    created: float
    expires: float | None = None
    revoked: float | None = None

    def is_valid(self, now: float) -> bool:
        """Whether it lets somebody in at this time."""
        return self.revoked is None and (self.expires is None or now < self.expires)


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that a gateway must know before a request comes.

    Attributes:
        version: Changes with every change of a key or setting, and never repeats.
        keys: All keys by their ids.
        settings: Runtime settings as they were written, by name (`qzoom.store.runtime`).
    """

    version: str = ""
    keys: Mapping[str, KeyRecord] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Charge:
    """A request that wants to begin.

    Attributes:
        tenant: Who asks.
        lease: Names the request among those of the tenant.
        amounts: What it may use at most.
        limits: Of the tenant.
        lease_s: Seconds until the place of the request is given away, unless it is renewed.
    """

    tenant: str
    lease: str
    amounts: Amounts
    limits: TenantLimits
    lease_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a charge; if it was refused, nothing was counted.

    Attributes:
        refused_by: The limit that is reached; None where the request may begin.
        retry_after_s: Seconds until it may fit, if nobody else asks; 0 where it begins now.
        used: What counts in the window, this request included if it begins.
        reset_s: Seconds until nothing of that counts any more, in the order of `Resource`.
        running: Requests of the tenant at the same time, this one included if it begins.
        second: Where it was counted; `settle` needs it.
    """

    refused_by: Resource | Literal["concurrency"] | None
    retry_after_s: float
    used: Amounts
    reset_s: tuple[float, float, float]
    running: int
    second: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """A request that has ended.

    Attributes:
        tenant: Who asked.
        lease: As in its `Charge`.
        second: As in its `Verdict`.
        correction: What it used, less what was charged.
    """

    tenant: str
    lease: str
    second: int
    correction: Amounts


@dataclass(frozen=True, slots=True)
class Claim:
    """A request with an Idempotency-Key that wants to begin.

    Attributes:
        tenant: Who asks.
        key: What the client calls the request.
        fingerprint: Digest of everything that the answer depends on.
        owner: Names the attempt; another attempt with the same key has another.
        lease_s: Seconds until another attempt may begin, unless the claim is renewed.
    """

    tenant: str
    key: str
    fingerprint: str
    owner: str
    lease_s: float


ClaimState = Literal["new", "answered", "running", "other"]


@dataclass(frozen=True, slots=True)
class Claimed:
    """What is known of a request with that key.

    Attributes:
        state: `new`: it is yours, answer it; `answered`: `answer` has been given before;
            `running`: another attempt works on it; `other`: the key belongs to another request.
        answer: What was kept.
    """

    state: ClaimState
    answer: bytes | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    """An answer that shall be given again to whoever asks with the same key.

    Attributes:
        claim: Of the request.
        answer: What to keep.
        keep_s: Seconds for which it is kept.
        max_tenant_bytes: Most bytes kept for the tenant; beyond, its oldest answers go.
        max_bytes: Most bytes kept for all; beyond, the oldest answers go.
    """

    claim: Claim
    answer: bytes
    keep_s: float
    max_tenant_bytes: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """A request that is still worked on; its lease or claim is renewed.

    Attributes:
        tenant: Who asked.
        lease: As in its `Charge`; None where nothing was charged.
        claim: Its claim; None without an Idempotency-Key.
        lease_s: Seconds from now for which it holds.
    """

    tenant: str
    lease: str | None
    claim: Claim | None
    lease_s: float
