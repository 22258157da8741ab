"""What is an API key? `qz-<id>-<secret>`: an id that may be shown, and 256 random bits.

Only a SHA-256 digest is kept. A slow hash protects passwords, which people choose; 256 random bits
cannot be guessed from a fast one either, and it is computed for every request.
"""

import hashlib
import hmac
import re
import secrets

from qzoom.store.messages import KeyRecord
from qzoom.store.tenants import check_tenant

PREFIX = "qz-"
_KEY = re.compile(r"qz-([0-9a-f]{12})-([A-Za-z0-9_-]{43})")
MAX_NAME_CHARS = 100


def new_key(
    tenant: str, name: str, now: float, lifetime_s: float | None = None
) -> tuple[str, KeyRecord]:
    """Make a key.

    Args:
        tenant: Whose requests it lets in.
        name: What its owner calls it; cut to `MAX_NAME_CHARS`.
        now: Unix time in seconds.
        lifetime_s: Seconds until it expires; None never.

    Returns:
        key: The secret, for its owner alone; it cannot be shown again.
        record: What is kept.

    Raises:
        InvalidRequest: If the tenant's name is none.
    """
    key_id = secrets.token_hex(6)
    key = f"{PREFIX}{key_id}-{secrets.token_urlsafe(32)}"
    expires = None if lifetime_s is None else now + lifetime_s
    record = KeyRecord(
        key_id, digest(key), check_tenant(tenant), name[:MAX_NAME_CHARS], now, expires
    )
    return key, record


def key_id(key: str) -> str | None:
    """Read the id of a key; None if this has not the form of one."""
    match = _KEY.fullmatch(key)
    return match.group(1) if match else None


def belongs(key: str, record: KeyRecord) -> bool:
    """Whether a record was made from this key; takes equally long for any other."""
    return hmac.compare_digest(digest(key), record.digest)


def digest(key: str) -> str:
    """Compute what is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()
