"""How far is a case from the published code? Deviations beside their tolerances."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Check:
    """One quantity.

    Attributes:
        name: What was compared.
        deviation: Largest absolute difference; for exact quantities the number of entries that
            differ.
        tolerance: Most that is allowed; 0 for exact quantities.
    """

    name: str
    deviation: float
    tolerance: float

    @property
    def is_good(self) -> bool:
        """Whether the deviation is allowed; NaN never is."""
        return self.deviation <= self.tolerance


@dataclass(slots=True)
class CaseReport:
    """All checks of one case.

    Attributes:
        name: Of the case.
        path: Which way this code went; `-` if it was stopped before that.
        checks: In the order of the method; a name may occur more than once.
    """

    name: str
    path: str = "-"
    checks: list[Check] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether every check is."""
        return all(check.is_good for check in self.checks)

    def worst(self) -> list[Check]:
        """One check for each name: the one that exceeds its tolerance most."""
        by_name: dict[str, Check] = {}
        for check in self.checks:
            known = by_name.get(check.name)
            if known is None or _excess(check) > _excess(known):
                by_name[check.name] = check
        return list(by_name.values())

    def exact(self, name: str, actual: ArrayLike, expected: ArrayLike) -> None:
        """Compare what must be equal: ids, boxes, grids, pictures."""
        left, right = np.asarray(actual), np.asarray(expected)
        if left.shape != right.shape:
            self.checks.append(Check(name, float("inf"), 0.0))
        else:
            self.checks.append(Check(name, float(np.sum(left != right)), 0.0))

    def close(self, name: str, actual: ArrayLike, expected: ArrayLike, tolerance: float) -> None:
        """Compare real numbers; another shape or a NaN is an infinite deviation."""
        left, right = _double(actual), _double(expected)
        if left.shape != right.shape or not np.isfinite(left).all() or not np.isfinite(right).all():
            self.checks.append(Check(name, float("inf"), tolerance))
        else:
            deviation = float(np.abs(left - right).max(initial=0.0))
            self.checks.append(Check(name, deviation, tolerance))


def _excess(check: Check) -> float:
    return check.deviation / check.tolerance if check.tolerance else check.deviation


def _double(values: ArrayLike) -> NDArray[Any]:
    return np.asarray(values, dtype=np.float64)
