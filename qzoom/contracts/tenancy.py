"""Whose request is it? The name of a tenant, and what keeps its cached state apart."""

import hashlib
from typing import Final

DEFAULT_TENANT: Final = "default"
"""Whoever asks where nobody has to say who they are."""

_SALT_DOMAIN = b"qzoom tenant salt v1\0"


def cache_salt(tenant: str) -> bytes:
    """Give what every key of cached state must contain, so that tenants share none of it.

    Two tenants never find, and so never time, each other's pictures or prefixes. The salt is the
    same in all processes and after a restart; it is no secret, as keys of caches never leave them.

    Args:
        tenant: Its name, such as `Context.tenant`.

    Returns:
        salt: 32 bytes, another for each tenant.
    """
    return hashlib.sha256(_SALT_DOMAIN + tenant.encode()).digest()
