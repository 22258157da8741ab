"""Tables II and V: rivals on the same base model, one request at a time."""

from pathlib import Path

from evaluation.ablation.report import Report, figures
from evaluation.ablation.workshop import Workshop
from evaluation.answerers.local import LocalAnswerer, open_pipeline
from evaluation.baselines.registry import NAMES, UNTRAINED, open_rival
from evaluation.baselines.rival import RivalAnswerer
from evaluation.modes import Mode
from evaluation.run import evaluate, evaluate_rival
from evaluation.summary import summarize


def run(workshop: Workshop, detector: Path | None = None, general: str | None = None) -> Report:
    """Ask the base, the rivals and Q-Zoom.

    Args:
        workshop: Gives checkpoint and questions.
        detector: Folder of GroundingDINO's weights; without it, its rows are left out.
        general: ViCrop's general question, for models that do not know its own words.
    """
    pipeline, data = open_pipeline(workshop.model), workshop.data()
    alone = LocalAnswerer(pipeline, batch=1)
    found = {}
    for title, mode in (
        ("base", Mode("base")),
        ("Q-Zoom, always zoom", Mode("zoom")),
        ("Q-Zoom, auto", Mode("auto")),
    ):  # fmt: skip
        workshop.tell(title)
        found[title] = summarize(list(evaluate(alone, data, mode)))
    for name in NAMES if detector else UNTRAINED:
        rival = open_rival(name, pipeline, detector=detector, general=general)
        workshop.tell(rival.name)
        results = evaluate_rival(RivalAnswerer(rival, {}), data, name, None)
        found[rival.name] = summarize(list(results))
    base = found["base"].per_cpu_s or 1.0
    rows = [
        {"": name, "throughput": f"{(s.per_cpu_s or 0) / base:.2f} x", **figures(s)}
        for name, s in found.items()
    ]
    notes = ["All at the coarse budget; throughput is relative to the base's, one request at once."]
    if detector is None:
        notes.append("GroundingDINO was left out: no folder of its weights was given.")
    return Report("table-5", "Other ways to find the region (Tables II and V)", rows, notes=notes)
