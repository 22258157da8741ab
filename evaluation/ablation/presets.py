"""Presets `paper` and `released`, and each point in which they differ, on the same weights.

Budgets and thresholds stay the checkpoint's: they belong to the model, not to the variant. Always
zooming, so that the gate has no part in it; differences are paired over the questions.
"""

import dataclasses
from typing import Any

from evaluation.ablation.report import Cell, Report, figures
from evaluation.ablation.workshop import Workshop
from evaluation.answerers.local import LocalAnswerer, open_pipeline
from evaluation.modes import Mode
from evaluation.results import Result
from evaluation.run import evaluate
from evaluation.summary import summarize
from qzoom.metrics.intervals import Mean, bootstrap_difference
from qzoom.model.config import Preset, QZoomConfig
from qzoom.model.loading import Checkpoint, open_checkpoint

_OF_THE_MODEL = {
    "split_layer", "gate_depth", "rpn_depth", "has_gate", "has_rpn", "tau_gate", "tau_roi",
    "roi_threshold",
    "coarse_min_tokens", "coarse_max_tokens", "roi_min_tokens", "roi_max_tokens", "default_system",
    "rpn_extra_norm",
}  # fmt: skip
"""Fields that weights and prompts were made with."""


def run(workshop: Workshop) -> Report:
    """Ask with the preset `paper`, `released`, and `paper` with one of the differences each."""
    checkpoint = open_checkpoint(workshop.model)
    paper, released = (variant(checkpoint, name) for name in ("paper", "released"))
    different = [
        field.name
        for field in dataclasses.fields(QZoomConfig)
        if getattr(paper, field.name) != getattr(released, field.name)
    ]
    variants: dict[str, QZoomConfig] = {"paper": paper, "released": released}
    for name in different:
        value = getattr(released, name)
        variants[f"{name}: {value}"] = dataclasses.replace(paper, **{name: value})
    answered = {name: _ask(workshop, name, config) for name, config in variants.items()}
    rows: list[dict[str, Cell]] = [
        {
            "": name,
            "less paper": "-" if name == "paper" else _points(_less(results, answered["paper"])),
            **figures(summarize(results)),
        }
        for name, results in answered.items()
    ]
    stored = [name for name, config in variants.items() if config == checkpoint.qzoom]
    note = f"The checkpoint's own configuration is {stored[0] if stored else 'another one'}."
    title = "Presets `paper` and `released`, always zooming"
    return Report("presets", title, rows, notes=[note])


def variant(checkpoint: Checkpoint, preset: Preset) -> QZoomConfig:
    """The checkpoint's configuration as a preset has it, but for what belongs to the weights."""
    own = checkpoint.qzoom
    wanted = QZoomConfig.preset(preset, checkpoint.family, split_layer=own.split_layer)
    changes: dict[str, Any] = {
        field.name: getattr(wanted, field.name)
        for field in dataclasses.fields(QZoomConfig)
        if field.name not in _OF_THE_MODEL
    }
    return dataclasses.replace(own, **changes)


def _ask(workshop: Workshop, name: str, config: QZoomConfig) -> list[Result]:
    workshop.tell(name)
    pipeline = open_pipeline(
        workshop.model, change=lambda opened: dataclasses.replace(opened, qzoom=config)
    )
    return list(evaluate(LocalAnswerer(pipeline), workshop.data(), Mode("zoom")))


def _less(first: list[Result], second: list[Result]) -> Mean:
    return bootstrap_difference([r.score for r in first], [r.score for r in second])


def _points(gap: Mean) -> str:
    return f"{100 * gap.value:+.1f} ({100 * gap.low:+.1f} .. {100 * gap.high:+.1f})"
