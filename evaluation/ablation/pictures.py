"""Fig. 7: pictures of what the base missed and Q-Zoom found, with heat map and box."""

import numpy as np
from PIL import Image

from evaluation.ablation.report import Cell, Report
from evaluation.ablation.workshop import Workshop
from evaluation.answerers.local import LocalAnswerer, open_pipeline
from evaluation.modes import Mode
from evaluation.run import evaluate
from qzoom.contracts.options import Options
from qzoom.overlay import Look, draw_overlay

SHOWN = 4


def run(workshop: Workshop) -> Report:
    """Draw questions that only the zoomed answer gets right; else the first zoomed ones."""
    pipeline, data = open_pipeline(workshop.model), workshop.data()
    answerer = LocalAnswerer(pipeline)
    base = list(evaluate(answerer, data, Mode("base")))
    auto = list(evaluate(answerer, data, Mode("auto")))
    zoomed = [i for i, result in enumerate(auto) if result.route == "zoom"]
    rescued = [i for i in zoomed if auto[i].score > base[i].score]
    chosen = (rescued + [i for i in zoomed if i not in rescued])[:SHOWN]
    rows: list[dict[str, Cell]] = []
    names = []
    for number, index in enumerate(chosen, start=1):
        record = data.records[index]
        pixels = record.picture.load()
        options = Options(explain=True)
        answer = pipeline.answer(data.conversation(record), [pixels], options)
        config = pipeline.checkpoint.qzoom
        tau_roi = config.tau_roi
        if config.roi_threshold == "relative" and answer.heatmap is not None:
            tau_roi *= float(answer.heatmap.max())
        look = Look(
            record.question, answer.text, answer.route, answer.p_refine, answer.heatmap,
            answer.proposal.box_px if answer.proposal else None,
            tau_roi,
        )  # fmt: skip
        name = f"figure-7-{number}.png"
        draw_overlay(Image.fromarray(np.asarray(pixels)), look).save(workshop.folder / name)
        names.append(name)
        rows.append(
            {"": number, "question": record.question, "truth": record.answers[0],
             "base": base[index].answer, "Q-Zoom": answer.text}
        )  # fmt: skip
    notes = [f"Of {len(data.records)} questions, {len(zoomed)} were zoomed and {len(rescued)} of "
             "these are right only when zoomed."]  # fmt: skip
    if len(rescued) < len(chosen):
        notes.append("Fewer than four were rescued; the others are the first that were zoomed.")
    return Report(
        "figure-7", "What a second look finds (Fig. 7)", rows, pictures=names, notes=notes
    )
