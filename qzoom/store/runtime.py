"""Which settings change while the system runs? `qzoom settings` writes them, every gateway obeys.

    tau_gate                       threshold of the gate, where a request does not say
    limits.<limit>                 of every tenant that has none of its own
    limits.<tenant>.<limit>        of one tenant

with the limits of `TenantLimits`. A value is a number, or `none` for unlimited. What is not set
here comes from the settings that the gateway was started with.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from qzoom.errors import InvalidRequest, NotFound
from qzoom.store.limits import LIMIT_NAMES, TenantLimits
from qzoom.store.tenants import check_tenant

TAU_GATE = "tau_gate"
MAX_LIMIT = 10**12
NONE = "none"


def check(name: str, value: str) -> str:
    """Check a setting before it is written.

    Args:
        name: Of the setting.
        value: As a person writes it.

    Returns:
        value: As it is kept.

    Raises:
        NotFound: If there is no setting of that name.
        InvalidRequest: If the value has the wrong type or range.
    """
    check_name(name)
    if name == TAU_GATE:
        return repr(_probability(name, value))
    limit = _limit(name, value)
    return NONE if limit is None else str(limit)


def check_name(name: str) -> None:
    """Make sure that a setting of this name exists.

    Raises:
        NotFound: If not; it names those that do.
        InvalidRequest: If it names a tenant that cannot be.
    """
    if name == TAU_GATE:
        return
    first, *rest = name.split(".")
    if first == "limits" and 1 <= len(rest) <= 2 and rest[-1] in LIMIT_NAMES:
        if len(rest) == 2:
            check_tenant(rest[0])
        return
    raise NotFound(
        f"there is no setting {name[:120]!a}, only tau_gate, limits.<limit> and "
        f"limits.<tenant>.<limit> with the limits {', '.join(LIMIT_NAMES)}"
    )


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """What all gateways obey at the moment.

    Attributes:
        tau_gate: Threshold of the gate in [0, 1]; None leaves it to the model.
        default_limits: Of tenants without limits of their own.
        tenant_limits: Own limits, which replace the default ones one by one.
    """

    tau_gate: float | None = None
    default_limits: TenantLimits = field(default_factory=TenantLimits)
    tenant_limits: Mapping[str, TenantLimits] = field(default_factory=dict)

    def limits(self, tenant: str) -> TenantLimits:
        """Give the limits of a tenant."""
        return self.tenant_limits.get(tenant, self.default_limits)


def obey(written: Mapping[str, str], initial: RuntimeSettings) -> RuntimeSettings:
    """Apply what was written over what the gateway was started with.

    What cannot be understood, because another version wrote it, is left out.
    """
    tau_gate = initial.tau_gate
    defaults: dict[str, int | None] = asdict(initial.default_limits)
    own: dict[str, dict[str, int | None]] = {}
    for name, text in written.items():
        try:
            checked = check(name, text)
        except (InvalidRequest, NotFound):
            continue
        if name == TAU_GATE:
            tau_gate = float(checked)
            continue
        value = None if checked == NONE else int(checked)
        _, *tenant, limit = name.split(".")
        (own.setdefault(tenant[0], {}) if tenant else defaults)[limit] = value
    return RuntimeSettings(
        tau_gate,
        TenantLimits(**defaults),
        {tenant: TenantLimits(**{**defaults, **limits}) for tenant, limits in own.items()},
    )


def _probability(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise InvalidRequest(f"{name} is {value[:40]!a}, must be a number from 0 to 1", param=name)
    return number


def _limit(name: str, value: str) -> int | None:
    if value == NONE:
        return None
    if not (value.isascii() and value.isdecimal() and int(value[:20]) <= MAX_LIMIT):
        raise InvalidRequest(
            f"{name} is {value[:40]!a}, must be a whole number from 0 to {MAX_LIMIT} or none",
            param=name,
        )
    return int(value)
