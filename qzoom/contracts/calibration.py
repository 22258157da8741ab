"""How much accuracy does a threshold cost? The curve that goes with a model, for whoever bends it.

`qzoom calibrate` measures it on a validation split and stores it in the checkpoint's folder. It
says how far tau_gate may rise where cost is shed under load. No torch here.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qzoom.errors import InvalidRequest

CALIBRATION_FILE = "calibration.json"
MAX_BYTES = 4 * 1024 * 1024

ROUNDING = 1e-12
"""Accuracies are shares of counted questions; a difference of less is none."""

Share = Annotated[float, Field(ge=0, le=1)]


class _Typed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class GatePoint(_Typed):
    """What routing at one threshold of the gate gives.

    Attributes:
        tau_gate: Questions with p(refine) of at least this are zoomed.
        accuracy: Mean score over the validation questions.
        low: Lower end of its 95 % interval.
        high: Upper end.
        zoom_share: Share of questions that are zoomed.
        visual_tokens: Mean visual tokens.
    """

    tau_gate: Share
    accuracy: Share
    low: Share
    high: Share
    zoom_share: Share
    visual_tokens: Annotated[float, Field(ge=0)]


class RoiPoint(_Typed):
    """What one threshold of the map gives, always zooming.

    Attributes:
        tau_roi: Cells above this belong to the RoI.
        accuracy: Mean score over the validation questions.
        box_recall: Share of evidence centres inside the box; None without known evidence.
        box_area: Mean share of the picture; None where no box was found.
        visual_tokens: Mean visual tokens.
    """

    tau_roi: Annotated[float, Field(gt=0, lt=1)]
    accuracy: Share
    box_recall: Share | None
    box_area: Share | None
    visual_tokens: Annotated[float, Field(ge=0)]


class Calibration(_Typed):
    """Thresholds of one checkpoint and the curves that they were chosen from.

    Attributes:
        format: Version of this file.
        revision: Fingerprint of the checkpoint that was measured.
        data: Validation split.
        metric: What counts as right.
        questions: How many were asked.
        tau_gate: The chosen threshold of the gate.
        tau_roi: The chosen threshold of the map.
        gate_curve: By rising tau_gate, at the chosen tau_roi.
        roi_curve: By rising tau_roi.
    """

    format: Literal[1] = 1
    revision: str
    data: str
    metric: str
    questions: Annotated[int, Field(ge=1)]
    tau_gate: Share
    tau_roi: Annotated[float, Field(gt=0, lt=1)]
    gate_curve: Annotated[tuple[GatePoint, ...], Field(min_length=1, max_length=1000)]
    roi_curve: Annotated[tuple[RoiPoint, ...], Field(max_length=1000)]

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        taus = [point.tau_gate for point in self.gate_curve]
        if taus != sorted(set(taus)):
            raise ValueError("gate_curve does not rise in tau_gate")
        if self.tau_gate not in taus:
            raise ValueError(f"gate_curve has no point at the chosen tau_gate {self.tau_gate}")
        return self

    @property
    def chosen(self) -> GatePoint:
        """The chosen point of the gate's curve."""
        return next(p for p in self.gate_curve if p.tau_gate == self.tau_gate)

    @property
    def accuracy_by_tau(self) -> tuple[tuple[float, float], ...]:
        """Pairs of tau_gate and accuracy by rising tau_gate, for `highest_tau_gate`."""
        return tuple((point.tau_gate, point.accuracy) for point in self.gate_curve)

    def save(self, folder: Path) -> Path:
        """Write the file into a checkpoint's folder, whole or not at all."""
        path = folder / CALIBRATION_FILE
        part = path.with_name(f"{CALIBRATION_FILE}.part")
        part.write_text(self.model_dump_json(indent=1) + "\n")
        part.replace(path)
        return path


def highest_tau_gate(
    accuracy_by_tau: Sequence[tuple[float, float]], tau_gate: float, max_loss: float
) -> float:
    """How far may tau_gate be raised?

    Args:
        accuracy_by_tau: Pairs of tau_gate and accuracy by rising tau_gate, at least one.
        tau_gate: The threshold that is raised. Between two points of the curve it counts as the
            better one, so that the loss is never more than was allowed.
        max_loss: Accuracy that may be lost against `tau_gate`, in [0, 1].

    Returns:
        The largest tau_gate of the curve up to which no point loses more; `tau_gate` if there is
        none.
    """
    below = [accuracy for tau, accuracy in accuracy_by_tau if tau <= tau_gate]
    above = [accuracy for tau, accuracy in accuracy_by_tau if tau >= tau_gate]
    floor = max([*below[-1:], *above[:1]]) - max_loss
    highest = tau_gate
    for tau, accuracy in accuracy_by_tau:
        if tau <= tau_gate:
            continue
        if accuracy < floor - ROUNDING:
            break
        highest = tau
    return highest


def load_calibration(folder: Path, revision: str | None = None) -> Calibration | None:
    """Read a checkpoint's calibration.

    Args:
        folder: Of the checkpoint.
        revision: Fingerprint of the checkpoint; None takes a calibration of any.

    Returns:
        None where the folder has none, or one of another revision: weights or thresholds have been
        changed since, so that its figures say nothing.

    Raises:
        InvalidRequest: If the file is there and broken.
    """
    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidRequest(f"{path} has more than {MAX_BYTES} bytes")
        found = Calibration.model_validate(json.loads(path.read_bytes()))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{path}: {where or 'the file'}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be read: {str(error)[:200]}") from None
    return found if revision in {None, found.revision} else None
