"""All ablations by name."""

from collections.abc import Callable
from dataclasses import dataclass

from evaluation.ablation import (
    attention,
    components,
    data_size,
    depth,
    gate_controls,
    gate_labels,
    pictures,
    presets,
    resolution,
    rivals,
    thresholds,
)
from evaluation.ablation.report import Report
from evaluation.ablation.workshop import Workshop
from qzoom.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Ablation:
    """One table or figure.

    Attributes:
        shows: In one line.
        run: Makes it.
        trains: Whether anything is trained.
    """

    shows: str
    run: Callable[[Workshop], Report]
    trains: bool = False


ABLATIONS: dict[str, Ablation] = {
    "table-1": Ablation("the plain model at rising budgets", resolution.run),
    "table-4": Ablation("RPN, Post-SFT and gate, one by one", components.run),
    "table-5": Ablation("rivals on the same base model", rivals.run),
    "table-6": Ablation("after which layer, and how deep", depth.run, trains=True),
    "table-7": Ablation("amount of labels, and true boxes", data_size.run, trains=True),
    "table-8": Ablation("thresholds of the labels", thresholds.run, trains=True),
    "figure-5": Ablation("relative attention and the evidence", attention.run),
    "figure-7": Ablation("pictures of what a second look finds", pictures.run),
    "figure-9": Ablation("consistency-aware against naive labels", gate_labels.run, trains=True),
    "presets": Ablation("`paper`, `released`, and each difference", presets.run),
    "gate-controls": Ablation("the gate without its eyes", gate_controls.run),
}


def find_ablation(name: str) -> Ablation:
    """Look an ablation up.

    Raises:
        InvalidRequest: If there is none of that name.
    """
    if name not in ABLATIONS:
        raise InvalidRequest(f"ablation is {name!r}, must be one of {', '.join(ABLATIONS)}")
    return ABLATIONS[name]
