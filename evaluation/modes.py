"""In which ways is a model asked? The routes of the method, and the plain model at a budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from qzoom.contracts.options import Options
from qzoom.errors import InvalidRequest

Kind = Literal["base", "auto", "zoom", "oracle"]
"""base: the plain model; auto: the gate decides; zoom: always (SD-RPN); oracle: a perfect gate."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to ask every question.

    Attributes:
        kind: Of the four.
        budget: Most visual tokens of the coarse picture and of the RoI alike, as the paper sweeps
            them; None takes the model's own.
        tau_gate: Threshold of the gate; None takes the model's.
        tau_roi: Threshold of the map; None takes the model's.
        label: Name in tables; made from kind and budget if "".
    """

    kind: Kind
    budget: int | None = None
    tau_gate: float | None = None
    tau_roi: float | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """Name in tables and files."""
        at = "" if self.budget is None else f"@{self.budget}"
        return self.label or f"{self.kind}{at}"

    @property
    def options(self) -> Options:
        """What each request asks for.

        Raises:
            ValueError: For the oracle, which is computed and never asked.
        """
        if self.kind == "oracle":
            raise ValueError("the oracle is made of answers of base and zoom")
        return Options(
            route="direct" if self.kind == "base" else self.kind,
            tau_gate=self.tau_gate,
            tau_roi=self.tau_roi,
            max_visual_tokens=self.budget,
            max_roi_tokens=None if self.kind == "base" else self.budget,
        )


def sweep(kinds: Sequence[str], budgets: Sequence[int | None]) -> list[Mode]:
    """Every kind at every budget, in this order; an oracle brings the modes that it is made of.

    Raises:
        InvalidRequest: If a kind is unknown or a budget below one token.
    """
    known: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    for kind in kinds:
        if kind not in known:
            raise InvalidRequest(f"mode is {kind!r}, must be one of {', '.join(known)}")
    for budget in budgets:
        if budget is not None and budget < 1:
            raise InvalidRequest(f"budget is {budget}, must be at least 1 visual token")
    wanted = set(kinds) | ({"base", "zoom"} if "oracle" in kinds else set())
    return [Mode(kind, budget) for kind in get_args(Kind) if kind in wanted for budget in budgets]


def doubling_budgets(coarse_tokens: int, full_tokens: int) -> list[int]:
    """Budgets from the coarse to the full one, each about twice the one before."""
    budgets = [coarse_tokens]
    while budgets[-1] * 3 < full_tokens * 2:
        budgets.append(budgets[-1] * 2)
    return budgets if budgets[-1] >= full_tokens else [*budgets, full_tokens]
