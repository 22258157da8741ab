"""What may a tenant be called? Short, plain, and fit for names of keys, labels and settings."""

import re

from qzoom.errors import InvalidRequest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
TENANT_RULE = "1 to 63 letters, digits, dashes or underscores, beginning with a letter or digit"


def is_tenant(name: object) -> bool:
    """Whether this is a tenant's name."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def check_tenant(name: str) -> str:
    """Return the name of a tenant.

    Raises:
        InvalidRequest: If it is none.
    """
    if not is_tenant(name):
        raise InvalidRequest(f"tenant {name[:80]!a} must be {TENANT_RULE}", param="tenant")
    return name
