"""Table VI: after which layer B to branch, and how deep the RPN's branch R is."""

from evaluation.ablation.report import Report, figures
from evaluation.ablation.workshop import Workshop
from evaluation.modes import Mode
from qzoom.model.loading import open_checkpoint

DEPTHS = (1, 2, 3, 4)


def run(workshop: Workshop) -> Report:
    """Train an RPN for several B at the recipe's R, and for several R at its B."""
    method = workshop.recipe().method
    split, depth = int(method["split_layer"]), int(method["rpn_depth"])
    layers = open_checkpoint(workshop.model).hf_config.get_text_config().num_hidden_layers
    splits = sorted(
        {max(1, round(layers * part)) for part in (0.125, 0.25, 0.375, 0.5, 0.625, 0.75)}
    )
    tried = [(b, depth) for b in splits if b + depth <= layers]
    tried += [(split, r) for r in DEPTHS if split + r <= layers and r != depth]
    rows = []
    for b, r in tried:
        changes = [f"method.split_layer={b}", f"method.rpn_depth={r}", "method.gate_depth=1"]
        model = workshop.rpn(f"B{b}-R{r}", changes)
        rows.append({"B": b, "R": r, **figures(workshop.summary(model, Mode("zoom")))})
    return Report("table-6", "Depth of the backbone and of the RPN (Table VI)", rows)
