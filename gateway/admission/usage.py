"""What is in work now, in all, and by tenant? Sums of predicted costs, compared with bounds."""

from dataclasses import dataclass

from gateway.admission.bounds import AdmissionBounds
from gateway.admission.cost import Cost


@dataclass(slots=True)
class Sum:
    """Costs that were added up.

    Attributes:
        requests: How many.
        visual_tokens: Of all.
        kv_bytes: Of all.
        store_bytes: Of all.
    """

    requests: int = 0
    visual_tokens: int = 0
    kv_bytes: int = 0
    store_bytes: int = 0

    def add(self, cost: Cost, sign: int = 1) -> None:
        """Add a cost, or take it away with `sign` -1."""
        self.requests += sign
        self.visual_tokens += sign * cost.visual_tokens
        self.kv_bytes += sign * cost.kv_bytes
        self.store_bytes += sign * cost.store_bytes

    def fits(self, cost: Cost, bounds: AdmissionBounds, share: float = 1.0) -> bool:
        """Whether a cost may be added: within the share of all bounds, or the only one."""
        return self.requests == 0 or (
            self.requests + 1 <= share * bounds.requests
            and self.visual_tokens + cost.visual_tokens <= share * bounds.visual_tokens
            and self.kv_bytes + cost.kv_bytes <= share * bounds.kv_bytes
            and self.store_bytes + cost.store_bytes <= share * bounds.store_bytes
        )

    def share(self, bounds: AdmissionBounds) -> float:
        """The fullest bound's share that is taken; above 1 where one request passes it alone."""
        return max(
            self.requests / bounds.requests,
            self.visual_tokens / bounds.visual_tokens,
            self.kv_bytes / bounds.kv_bytes,
            self.store_bytes / bounds.store_bytes,
        )


class Usage:
    """The work in hand of all tenants."""

    def __init__(self) -> None:
        self._all = Sum()
        self._by_tenant: dict[str, Sum] = {}

    def add(self, tenant: str, cost: Cost) -> None:
        """Count a request that begins."""
        self._all.add(cost)
        self._by_tenant.setdefault(tenant, Sum()).add(cost)

    def remove(self, tenant: str, cost: Cost) -> None:
        """Forget a request that ended."""
        self._all.add(cost, -1)
        own = self._by_tenant[tenant]
        own.add(cost, -1)
        if own.requests == 0:
            del self._by_tenant[tenant]

    def fits(self, cost: Cost, bounds: AdmissionBounds) -> bool:
        """Whether one more request may be worked on."""
        return self._all.fits(cost, bounds)

    def fits_tenant(self, tenant: str, cost: Cost, bounds: AdmissionBounds) -> bool:
        """Whether one more request of a tenant may be: within its share of all bounds."""
        own = self._by_tenant.get(tenant, Sum())
        return own.fits(cost, bounds, bounds.tenant_share)

    def share(self, bounds: AdmissionBounds) -> float:
        """The fullest bound's share that is taken."""
        return self._all.share(bounds)
