"""Choose tau_gate and tau_roi on a validation split, and keep the curve that they came from.

Every question is answered once directly and once zoomed for each tau_roi; p(refine) comes with the
latter. What any tau_gate would give follows from these, exactly and without asking again.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.answerers.local import LocalAnswerer
from evaluation.dataset import DataSet
from evaluation.modes import Mode
from evaluation.results import Result
from evaluation.run import evaluate
from evaluation.summary import summarize
from qzoom.contracts.calibration import Calibration, GatePoint, RoiPoint
from qzoom.errors import InvalidRequest
from qzoom.metrics.intervals import bootstrap_mean
from qzoom.model.loading import open_checkpoint
from qzoom.model.loading.writer import write_json

TAU_ROIS = (0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
CURVE_POINTS = 41


@dataclass(frozen=True, slots=True)
class Measured:
    """All answers that a calibration is made of.

    Attributes:
        direct: On the direct route.
        zoomed: By tau_roi, always zooming, with p(refine).
    """

    direct: list[Result]
    zoomed: dict[float, list[Result]]


def measure(
    answerer: LocalAnswerer, data: DataSet, tau_rois: Sequence[float], into: Measured
) -> Iterator[Result]:
    """Ask every question directly, and zoomed at every tau_roi.

    Args:
        answerer: The model.
        data: Validation questions.
        tau_rois: Thresholds to try.
        into: Takes the answers.

    Yields:
        Each answer as it comes, for progress.

    Raises:
        InvalidRequest: If the model has no gate or no RPN.
    """
    config = answerer.pipeline.checkpoint.qzoom
    if not config.has_gate or not config.has_rpn:
        lacking = "gate" if not config.has_gate else "RPN"
        raise InvalidRequest(f"{answerer.pipeline.checkpoint.path} has no {lacking} to calibrate")
    for result in evaluate(answerer, data, Mode("base")):
        into.direct.append(result)
        yield result
    for tau_roi in tau_rois:
        found = into.zoomed.setdefault(tau_roi, [])
        # A tau_gate of 0 always zooms, and asks the gate all the same.
        for result in evaluate(answerer, data, Mode("auto", tau_gate=0.0, tau_roi=tau_roi)):
            found.append(result)
            yield result


def calibrate(
    measured: Measured, *, data: str, metric: str, revision: str = "", tolerance: float = 0.005
) -> Calibration:
    """Choose thresholds.

    Of all pairs whose accuracy is within the tolerance of the best pair's, the one with the fewest
    visual tokens; then the larger thresholds.

    Args:
        measured: From `measure`.
        data: Name of the validation split.
        metric: What counted as right.
        revision: Of the checkpoint.
        tolerance: Accuracy that may be given up for fewer tokens.
    """
    # p(refine) does not depend on tau_roi.
    scores = [r.p_refine or 0.0 for r in next(iter(measured.zoomed.values()))]
    taus = _thresholds(scores)
    pairs = {
        (tau_roi, tau): _routed(measured.direct, zoomed, tau)
        for tau_roi, zoomed in measured.zoomed.items()
        for tau in taus
    }
    best = max(_accuracy(results) for results in pairs.values())
    good = [pair for pair, results in pairs.items() if _accuracy(results) >= best - tolerance]
    tau_roi, tau_gate = min(good, key=lambda pair: (_tokens(pairs[pair]), -pair[1], -pair[0]))
    return Calibration(
        revision=revision,
        data=data,
        metric=metric,
        questions=len(measured.direct),
        tau_gate=tau_gate,
        tau_roi=tau_roi,
        gate_curve=tuple(_gate_point(tau, pairs[tau_roi, tau]) for tau in taus),
        roi_curve=tuple(_roi_point(tau, zoomed) for tau, zoomed in sorted(measured.zoomed.items())),
    )


def store(calibration: Calibration, folder: Path) -> Calibration:
    """Write the thresholds into config.json and the curve beside it.

    Args:
        calibration: What was chosen.
        folder: Checkpoint in our own format.

    Returns:
        The calibration with the revision of the checkpoint as it is now.

    Raises:
        InvalidRequest: If the folder is of another format; `qzoom convert` makes one.
    """
    config_file = folder / "config.json"
    config = json.loads(config_file.read_text())
    if "qzoom" not in config:
        raise InvalidRequest(
            f"{folder} has no thresholds of its own to set; `qzoom convert` makes a folder that has"
        )
    config["qzoom"] |= {"tau_gate": calibration.tau_gate, "tau_roi": calibration.tau_roi}
    write_json(config_file, config)
    current = calibration.model_copy(update={"revision": open_checkpoint(folder).revision})
    current.save(folder)
    return current


def _thresholds(scores: Sequence[float]) -> list[float]:
    """0, 1, and values between the scores, at most `CURVE_POINTS`."""
    ordered = np.unique(np.asarray(scores, dtype=np.float64))
    between = (ordered[1:] + ordered[:-1]) / 2
    if len(between) > CURVE_POINTS - 2:
        # Even in questions, not in p: most scores lie near 0 or 1.
        between = np.unique(np.quantile(scores, np.linspace(0, 1, CURVE_POINTS)[1:-1]))
    return sorted({0.0, 1.0, *(round(float(tau), 6) for tau in between)})


def _routed(direct: Sequence[Result], zoomed: Sequence[Result], tau: float) -> list[Result]:
    return [
        z if (z.p_refine or 0.0) >= tau else d for d, z in zip(direct, zoomed, strict=True)
    ]  # the rule of `wants_zoom`


def _accuracy(results: Sequence[Result]) -> float:
    return sum(r.score for r in results) / len(results)


def _tokens(results: Sequence[Result]) -> float:
    return sum(r.visual_tokens for r in results) / len(results)


def _gate_point(tau: float, results: Sequence[Result]) -> GatePoint:
    accuracy = bootstrap_mean([r.score for r in results])
    return GatePoint(
        tau_gate=tau,
        accuracy=accuracy.value,
        low=accuracy.low,
        high=accuracy.high,
        zoom_share=sum(r.route == "zoom" for r in results) / len(results),
        visual_tokens=_tokens(results),
    )


def _roi_point(tau: float, results: Sequence[Result]) -> RoiPoint:
    found = summarize(results)
    return RoiPoint(
        tau_roi=tau,
        accuracy=found.all.value,
        box_recall=found.box_recall.value if found.box_recall else None,
        box_area=found.box_area.value if found.box_area else None,
        visual_tokens=found.visual_tokens,
    )
